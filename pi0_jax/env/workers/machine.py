"""What decides the bits of a simulator on a machine, so that two machines can be compared."""

import hashlib
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from pi0_jax import env, versions
from pi0_jax.env.robosuite.gl import picture
from pi0_jax.env.robosuite.libero_assets import described

# Beside those of `versions.SIMULATOR`: states go through NumPy, and ALOHA's models are a package.
_PACKAGES = ("numpy", "gym-aloha")


def describe(renderer: str, assets: Sequence[str]) -> dict[str, str]:
    """This machine, as texts by name; machines with equal ones simulate and draw alike.

    Takes some seconds: it renders a picture in another process.

    Args:
        renderer: MuJoCo's GL backend.
        assets: folders that the tasks name.

    Raises:
        InputError: it cannot render so.
    """
    made = versions.versions()
    return {
        "Python": ".".join(platform.python_version_tuple()[:2]),
        **{name: made[name] for name in versions.SIMULATOR},
        **{name: versions.version(name) for name in _PACKAGES},
        "pi0_jax/env": _code(),
        **{f"assets {folder}": _assets(Path(folder)) for folder in assets},
        f"{renderer} picture": picture(renderer),
    }


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> str:
    """What differs, such as "mujoco 3.3.7 in place of 3.3.6"; empty if nothing does."""
    return ", ".join(
        f"{name} {found.get(name)} in place of {value}"
        for name, value in expected.items()
        if found.get(name) != value
    )


def _code() -> str:
    """Digest of the simulators' own source code: a node may have an older copy."""
    root = Path(next(iter(env.__path__)))
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _assets(folder: Path) -> str:
    return described(folder) if folder.is_dir() else "missing"
