"""LeRobot folders as demonstrations."""
