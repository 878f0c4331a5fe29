"""Into a policy folder: statistics, robot, and the writing."""
