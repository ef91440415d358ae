"""What every model server tells Prometheus."""

from __future__ import annotations

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class ServerMetrics:
    """One server's figures, in a registry of their own; all names begin with `prefix`."""

    def __init__(
        self, prefix: str, *, seconds: tuple[float, ...], request_labels: tuple[str, ...]
    ) -> None:
        """`seconds`: limits of the buckets for a request's time."""
        own = self.registry = CollectorRegistry()
        ProcessCollector(registry=own)
        self.requests = Counter(
            f"{prefix}_requests", "Answers by HTTP status.", request_labels, registry=own
        )
        self.seconds = Histogram(
            f"{prefix}_request_seconds",
            "From the moment a request was taken to the end of its answer.",
            buckets=seconds,
            registry=own,
        )
        self.in_flight = Gauge(
            f"{prefix}_requests_in_flight",
            "Requests that were taken and not answered.",
            registry=own,
        )
        self.limit = Gauge(f"{prefix}_requests_limit", "As many are taken at once.", registry=own)
        self.loaded = Gauge(f"{prefix}_model_loaded", "1 once the model can be used.", registry=own)
        self.model = Info(f"{prefix}_model", "What is loaded.", registry=own)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)
