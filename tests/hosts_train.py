"""train.py where also a tiny network's larger leaves are cut over the mesh: run by test_hosts."""

from pi0_jax.apps import train
from pi0_jax.model import mesh

mesh.MIN_SIZE = 64

if __name__ == "__main__":
    train.command()
