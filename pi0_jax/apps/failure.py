"""What a command says when it fails for another reason than its input: one line.

The world's faults (a full disk, a file that is gone) name the file and what was kept. A traceback
is for our own mistakes: it goes into the run folder, where a bug report finds it.
"""

import contextlib
import json
import traceback
from pathlib import Path
from typing import Any

from pi0_jax.errors import first_line
from pi0_jax.io.atomic import write_text
from pi0_jax.run.folder import is_run
from pi0_jax.versions import versions

ERROR_FILE = "error.txt"


def fault_of_the_world(error: OSError, workdir: Path | None) -> str:
    """One line for an error of the operating system.

    Args:
        error: names the file, where it has one.
        workdir: run folder; None before it is known.
    """
    kept = "; what was saved before is kept" if workdir and is_run(workdir) else ""
    return f"{' '.join(str(error).split())}{kept}"


def mistake_of_ours(error: BaseException, workdir: Path, config: dict[str, Any]) -> str | None:
    """Puts a traceback, with versions and config, into the run folder.

    Args:
        error: the exception.
        workdir: run folder.
        config: of the run, as plain values.

    Returns:
        One line for the terminal; None where there is no run folder to write to.
    """
    if not is_run(workdir):
        return None
    trace = "".join(traceback.format_exception(error))
    facts = {"versions": versions(), "config": config}
    file = workdir / ERROR_FILE
    with contextlib.suppress(OSError):
        write_text(file, f"{trace}\n{json.dumps(facts, indent=1, default=repr)}\n")
        return (
            f"{type(error).__name__}: {first_line(error)}; this should not happen: please report "
            f"it with {file}, which has the traceback"
        )
    return None
