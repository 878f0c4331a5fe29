"""Names that a file gives: they stay in their folder, and what they name is a plain file."""

from pathlib import Path, PurePosixPath

from pi0_jax.errors import InputError


def file_inside(folder: Path, name: str, given_by: str) -> Path:
    """The path of a file that another file names, which does not leave its folder.

    Whether there is such a file is not looked at. Links are followed later: the folder's owner
    made them, and the caches of hubs consist of them.

    Args:
        folder: where the file must lie, at any depth.
        name: relative path with forward slashes.
        given_by: what has this name in it, for the message.

    Raises:
        InputError: the name is absolute, empty, or leads out of the folder.
    """
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or name.startswith("/") or "\0" in name or "\\" in name:
        raise InputError(f"{given_by}: names the file {name!r}, which is outside {folder}")
    return folder.joinpath(*parts)
