"""How many cores this process may use: a container or a scheduler may give it fewer than all."""

import os
from collections.abc import Iterator
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUP = Path("/proc/self/cgroup")


def cores() -> int:
    """Number of cores that this process may use, at least 1.

    The least of its CPU affinity (`taskset`, cpusets), the CPU quota of its cgroup and of those
    above it (a container's `--cpus`, the CPU limit of a Kubernetes pod), and SLURM_CPUS_PER_TASK.
    """
    limits = [float(_affinity()), *_quotas()]
    told = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if told.isdigit():
        limits.append(float(told))
    return max(1, int(min(limits)))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas() -> Iterator[float]:
    """The CPU quotas [cores] that this process is under, of cgroup versions 2 and 1."""
    for line in _read(_OWN_GROUP).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = _GROUPS / "cpu" if controllers else _GROUPS
        # A container may see its group as the root, or not see the folder that its name says.
        folder = root / path.lstrip("/")
        for place in (folder, *folder.parents):
            if place.is_relative_to(root):
                yield from _quota(place)


def _quota(folder: Path) -> Iterator[float]:
    """The quota of one cgroup, if it has one: CPU time per period of time."""
    both = _read(folder / "cpu.max").split()
    if not both:
        both = [_read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    # Without a limit version 2 says "max" and version 1 says -1.
    if len(both) == 2 and all(number.isdigit() for number in both):
        yield int(both[0]) / int(both[1])


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # no Linux, no cgroup, or not this version
        return ""
