"""A second name for a folder of large files, which stays when the first one goes."""

import os
import shutil
from pathlib import Path

from pi0_jax.inside import file_inside
from pi0_jax.io.atomic import atomic_folder
from pi0_jax.io.digests import DIGESTS, listed
from pi0_jax.io.place import check_space, size_text
from pi0_jax.listing import below
from pi0_jax.plain_file import check_file


def link_folder(source: Path, target: Path) -> str:
    """Makes a folder of hard links to the files of another one, or copies them.

    Links take no room, but lie on the same file system, and some systems give none to another
    user's files. Of a folder with digests only the files that these name are taken.

    Args:
        source: folder of files that are never written again, such as a policy folder.
        target: folder to make; it appears when it is whole.

    Returns:
        What was done, such as "linked 12.95 GB".

    Raises:
        InputError: the disk has no room for a copy, or a name leads out of the folder.
        OSError: as the file system says.
    """
    # A link to a link would be one to a name, and not to what is there now.
    files = {name: file_inside(source, name, str(source)).resolve() for name in _names(source)}
    for file in files.values():
        check_file(file)
    size = sum(file.stat().st_size for file in files.values())
    with atomic_folder(target) as partial:
        linked = True
        for name, file in files.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            if linked and not _link(file, partial / name):
                linked = False
                check_space(target, size, f"a copy of {source}")
            if not linked:
                shutil.copyfile(file, partial / name)
    return f"{'linked' if linked else 'copied'} {size_text(size)}"


def _names(folder: Path) -> list[str]:
    if (folder / DIGESTS).exists():
        return [*listed(folder), DIGESTS]
    return [str(path.relative_to(folder)) for path in below(folder) if path.is_file()]


def _link(file: Path, name: Path) -> bool:
    """Whether the file system gave a link: not to another one, and perhaps not to another user."""
    try:
        os.link(file, name)
    except OSError:
        return False
    return True
