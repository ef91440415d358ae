"""What an app has to tell; settings.METRIC_SOURCES names each app's by dotted path."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client.core import Metric

from mlops.metrics.counting import Counter, Histogram


@dataclass(frozen=True, slots=True)
class Source:
    """`counted` wherever it happens; `rows` reads the database, by indexes alone."""

    counted: tuple[Counter | Histogram, ...]
    rows: Callable[[], Iterator[Metric]]
