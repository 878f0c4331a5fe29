"""Networks side by side: stage by stage, and their values."""
