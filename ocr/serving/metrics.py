"""What the model server tells Prometheus."""

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

_SECONDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 40, 60)
_PAGES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


class Metrics:
    """One server's figures, in a registry of their own."""

    def __init__(self) -> None:
        own = self.registry = CollectorRegistry()
        ProcessCollector(registry=own)
        self.requests = Counter(
            "ocr_requests", "Answers of /predict by HTTP status.", ["status"], registry=own
        )
        self.seconds = Histogram(
            "ocr_request_seconds",
            "From the moment a request was taken to its answer.",
            buckets=_SECONDS,
            registry=own,
        )
        self.pages = Counter("ocr_pages", "Pages read.", registry=own)
        self.pages_failed = Counter("ocr_pages_failed", "Pages not read.", registry=own)
        self.batch_pages = Histogram(
            "ocr_batch_pages",
            "Pages an engine was given in one call.",
            buckets=_PAGES,
            registry=own,
        )
        self.engine_seconds = Counter(
            "ocr_engine_seconds", "Time inside engines, over all lanes.", registry=own
        )
        self.in_flight = Gauge(
            "ocr_requests_in_flight", "Requests that were taken and not answered.", registry=own
        )
        self.limit = Gauge("ocr_requests_limit", "As many are taken at once.", registry=own)
        self.queue_depth = Gauge("ocr_queue_depth", "Pages that wait for a lane.", registry=own)
        self.loaded = Gauge("ocr_model_loaded", "1 once the model can be used.", registry=own)
        self.model = Info("ocr_model", "What is loaded.", registry=own)

    def batch(self, pages: int, seconds: float) -> None:
        """One call of an engine."""
        self.batch_pages.observe(pages)
        self.engine_seconds.inc(seconds)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)
