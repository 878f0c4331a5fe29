"""ALOHA, a robot with two arms, in the simulation of the package gym-aloha."""
