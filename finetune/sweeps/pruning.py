"""Which running trials are hopeless: those behind the median of the others at the same place.

After the median stopping rule of Google Vizier (Golovin et al. 2017). Places are epochs: with
other batch sizes the same step stands for other amounts of data.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

# So many others must have come as far, and so much of a trial is let be in any case.
LEAST_OTHERS, WARMUP = 2, 0.25

# (epoch, value) in order.
Curve = Sequence[tuple[float, float]]


def behind(own: Curve, others: Sequence[Curve], *, epochs: float, minimize: bool) -> float | None:
    """The median that the trial is behind of, or None if there is hope.

    `own` is a running trial's curve of `epochs` in all; each of the others counts with its best
    value up to the same place.
    """
    if not own or not epochs or own[-1][0] < WARMUP * epochs:
        return None
    best = min if minimize else max
    place = own[-1][0]
    reached = [
        best(value for epoch, value in curve if epoch <= place + 1e-9)
        for curve in others
        if curve and curve[-1][0] >= place - 1e-9 and curve[0][0] <= place + 1e-9
    ]
    if len(reached) < LEAST_OTHERS:
        return None
    median = statistics.median(reached)
    mine = best(value for _epoch, value in own)
    worse = mine > median if minimize else mine < median
    return median if worse else None
