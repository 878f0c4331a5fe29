"""How much memory this process has needed so far, for metrics.jsonl."""

import resource

import jax

_GB = 1e9


def memory_used() -> dict[str, float]:
    """Highest use since the process began [10^9 bytes]: host, and the fullest of its devices.

    Returns:
        "host_peak_gb", and "device_peak_gb" where the devices count their memory; a CPU does not.
    """
    # Linux counts in kibibytes.
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    counted = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [stats["peak_bytes_in_use"] for stats in counted if "peak_bytes_in_use" in stats]
    found = {"host_peak_gb": host / _GB}
    return found | ({"device_peak_gb": max(peaks) / _GB} if peaks else {})
