"""What OCR tells Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import Metric

from mlops.metrics.counting import Counter, Histogram
from mlops.metrics.sources import Source

PAGES = Counter(
    "mlops_ocr_pages",
    "Pages, by what read them and how it went: read or failed. Those taken over from an earlier "
    "reading are not counted.",
    ("engine", "outcome"),
)
PAGE_SECONDS = Histogram(
    "mlops_ocr_page_seconds",
    "What one page took of an engine's time.",
    (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
    ("engine",),
)


def page_counted(*, engine: str, seconds: float, failed: bool) -> None:
    """A page that has been read, or could not be."""
    PAGES.add(engine, "failed" if failed else "read")
    PAGE_SECONDS.observe(engine, amount=seconds)


def rows() -> Iterator[Metric]:
    """Nothing: what is in the rows was counted when it was written."""
    yield from ()


SOURCE = Source(counted=(PAGES, PAGE_SECONDS), rows=rows)
