"""A program that gets a signal in one of its calls: for where a run writes nothing.

python struck.py MODULE FUNCTION COUNT SIGNAL PROGRAM [ARGUMENT ...]
"""

import importlib
import os
import runpy
import sys
from typing import Any


def main() -> None:
    """Runs the program; at the COUNT-th call of FUNCTION it gets the signal."""
    module, name, count, number, *words = sys.argv[1:]
    place, calls = importlib.import_module(module), 0
    inner = getattr(place, name)

    def struck(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == int(count):
            os.kill(os.getpid(), int(number))
        return inner(*args, **kwargs)

    setattr(place, name, struck)
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    main()
