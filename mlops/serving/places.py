"""How many requests a model server holds at once; one more is told to come back."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager

from mlops.exceptions import ApplicationError
from mlops.serving.metrics import ServerMetrics

_SHORTEST_WAIT, _LONGEST_WAIT = 1, 30


class Busy(ApplicationError):
    """Nothing is wrong with the request; `retry_after` seconds later there may be room."""

    def __init__(self, message: str, *, code: str, retry_after: int) -> None:
        super().__init__(message, code=code, status=503)
        self.retry_after = retry_after


class Places:
    """As many as `limit`; those waiting for the model and those under way. For the loop alone."""

    def __init__(self, limit: int, metrics: ServerMetrics) -> None:
        self.open = False
        self.held = 0
        # Requests that were dropped because the server had to end.
        self.cut_off = 0
        self._limit = limit
        self._metrics = metrics
        metrics.limit.set(limit)

    @contextmanager
    def take(self, seconds_each: float) -> Iterator[None]:
        """A place for one request. Raises Busy.

        `seconds_each`: what one takes of the server, to tell the refused when to come back.
        """
        if not self.open:
            raise Busy("The model is being loaded.", code="loading", retry_after=_SHORTEST_WAIT)
        if self.held >= self._limit:
            wait = math.ceil(self.held * seconds_each)
            raise Busy(
                f"{self.held} requests are being worked at, and no more are held.",
                code="queue_full",
                retry_after=min(max(wait, _SHORTEST_WAIT), _LONGEST_WAIT),
            )
        self.held += 1
        self._metrics.in_flight.set(self.held)
        try:
            yield
        except asyncio.CancelledError:
            self.cut_off += 1
            raise
        finally:
            self.held -= 1
            self._metrics.in_flight.set(self.held)
