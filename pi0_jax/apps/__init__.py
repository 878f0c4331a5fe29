"""The programs: settings, stages, command lines."""
