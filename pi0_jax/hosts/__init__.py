"""A run as several processes, each on a host of its own: how they join, and what they tell."""
