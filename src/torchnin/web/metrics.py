"""What the service counts, in Prometheus's text format."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector, generate_latest

from torchnin.version import __version__

# What is counted by its own path; everything else is one path, so that no stranger can make the list long.
_PATHS = frozenset(("/", "/v1/predict", "/v1/explain", "/v1/model", "/v1/samples", "/healthz", "/metrics", "/openapi.json"))
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SIZES = (1, 2, 4, 8, 16, 32, 64)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Requests by path and status, how long they took, how large the batches were, how many pictures wait, what the processes hold."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._requests = Counter("nin_requests", "Requests answered.", ("path", "status"), registry=registry)
        self._seconds = Histogram(
            "nin_request_seconds",
            "Seconds from the request's headers to the beginning of its answer.",
            ("path",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._batches = Histogram("nin_batch_pictures", "Pictures in a forward pass.", buckets=_SIZES, registry=registry)
        self._waiting = Gauge("nin_waiting_pictures", "Pictures that are accepted and not yet answered.", registry=registry)
        self._memory = Gauge(
            "nin_lookers_resident_memory_bytes",
            "Memory of the processes that look at pictures, besides the one that speaks HTTP; what they share is counted in each.",
            registry=registry,
        )
        Gauge("nin_info", "Always 1; says the version.", ("version",), registry=registry).labels(__version__).set(1)
        # Looking a labelled counter up costs more than counting.
        self._known: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count a request that begins to be answered."""
        if path not in _PATHS:
            path = "other"
        found = self._known.get((path, status))
        if found is None:
            found = self._known[path, status] = (self._requests.labels(path, str(status)), self._seconds.labels(path))
        found[0].inc()
        found[1].observe(seconds)

    def batch(self, size: int) -> None:
        """Count a forward pass."""
        self._batches.observe(size)

    def watch_waiting(self, waiting: Callable[[], float]) -> None:
        """Ask this for the number of waiting pictures whenever the metrics are read."""
        self._waiting.set_function(waiting)

    def watch_memory(self, memory: Callable[[], float]) -> None:
        """Ask this for the memory of the processes that look whenever the metrics are read."""
        self._memory.set_function(memory)

    def text(self) -> bytes:
        """Everything, in Prometheus's text format."""
        return generate_latest(self._registry)
