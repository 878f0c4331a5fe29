"""What a program wrote to stderr, without one line that is jax's own."""

import re

# jax 0.10 says this for every program that it takes from the compilation cache on a CPU: the
# compiler's own preferences (prefer-no-gather) are compared with features of the machine. Later
# releases do not. Users without a cache never see it, but these tests share one (conftest.py).
_OLD_JAX = re.compile(
    r"^E\d{4} [\d:.]+ +\d+ cpu_aot_loader\.cc:\d+\] Loading XLA:CPU AOT result\. "
    r"Target machine feature \+prefer-no-(?:gather|scatter) is not +supported .*\n",
    re.MULTILINE,
)


def own_lines(stderr: str) -> str:
    """The text without that line, which may come several times."""
    return _OLD_JAX.sub("", stderr)
