"""Serve a policy folder: the command `pi0-serve`; its code is pi0_jax/apps/serve.py."""

from pi0_jax.apps.entry import serve

if __name__ == "__main__":
    serve()
