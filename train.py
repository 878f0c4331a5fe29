"""Train pi0: the command `pi0-train`; its code is pi0_jax/apps/train.py."""

from pi0_jax.apps.entry import train

if __name__ == "__main__":
    train()
