"""Engines: what runs the simulators, in processes or in this one."""
