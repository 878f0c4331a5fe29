"""What a server counts, as Prometheus text."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30, 60)
# Keys of `Device.memory_stats` that operators watch.
_MEMORY = ("bytes_in_use", "peak_bytes_in_use", "bytes_limit")


class Metrics:
    """The numbers of one server, in a registry of its own.

    Attributes:
        requests: by outcome: "ok", "refused" (the client's fault), "busy", "failed" (ours),
            "gone" (nobody waits for the answer any more).
        refused_connections: by reason: "full", "key".
        seconds: a request from its last byte received to its answer sent.
        infer_seconds: a call of the policy.
        batch: requests in a call.
    """

    def __init__(self, rows: int, clients: Callable[[], int], queue: Callable[[], int]):
        """Starts at zero.

        Args:
            rows: of a call of the policy.
            clients: how many are connected now.
            queue: how many requests wait now.
        """
        self._registry = registry = CollectorRegistry()
        self.requests = Counter("pi0_requests", "Requests", ["outcome"], registry=registry)
        self.refused_connections = Counter(
            "pi0_refused_connections", "Connections refused", ["reason"], registry=registry
        )
        self.seconds = Histogram(
            "pi0_request_seconds",
            "Request from its last byte received to its answer sent",
            buckets=_SECONDS,
            registry=registry,
        )
        self.infer_seconds = Histogram(
            "pi0_infer_seconds", "Call of the policy", buckets=_SECONDS, registry=registry
        )
        self.batch = Histogram(
            "pi0_batch_requests",
            "Requests in a call of the policy",
            buckets=range(1, rows + 1),
            registry=registry,
        )
        Gauge("pi0_rows", "Rows of a call of the policy", registry=registry).set(rows)
        for name, text, read in (
            ("pi0_clients", "Connected clients", clients),
            ("pi0_queue", "Requests that wait for the policy", queue),
        ):
            Gauge(name, text, registry=registry).set_function(read)
        registry.register(_DeviceMemory())
        # Memory, file descriptors and CPU seconds of this process.
        ProcessCollector(registry=registry)

    def called(self, batch: int, seconds: float) -> None:
        """Counts a call of the policy."""
        self.batch.observe(batch)
        self.infer_seconds.observe(seconds)

    def text(self) -> bytes:
        """All numbers in Prometheus' text format."""
        return generate_latest(self._registry)


class _DeviceMemory(Collector):
    """Memory of every device that tells it; a CPU does not."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One family for all devices, read when it is asked for."""
        family = GaugeMetricFamily(
            "pi0_device_memory_bytes", "Device memory", labels=["device", "kind"]
        )
        for device in jax.local_devices():
            stats: dict[str, Any] = device.memory_stats() or {}
            for kind in _MEMORY:
                if kind in stats:
                    family.add_metric([str(device.id), kind], float(stats[kind]))
        yield family
