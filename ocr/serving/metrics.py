"""What the model server tells Prometheus."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from mlops.serving.metrics import ServerMetrics

_SECONDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 40, 60)
_PAGES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


class Metrics(ServerMetrics):
    """One OCR server's figures."""

    def __init__(self) -> None:
        super().__init__("ocr", seconds=_SECONDS, request_labels=("status",))
        own = self.registry
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
        self.queue_depth = Gauge("ocr_queue_depth", "Pages that wait for a lane.", registry=own)

    def batch(self, pages: int, seconds: float) -> None:
        """One call of an engine."""
        self.batch_pages.observe(pages)
        self.engine_seconds.inc(seconds)
