"""Two rankings made into one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)

# How little the very first places count above the next ones.
SMOOTHING = 60


def fused(*rankings: Sequence[Key]) -> list[tuple[Key, float]]:
    """Reciprocal rank fusion: (key, score), best first; what several rank high comes first.

    Source: Cormack, Clarke and Büttcher, Reciprocal Rank Fusion (SIGIR 2009).
    """
    scores: dict[Key, float] = defaultdict(float)
    for ranking in rankings:
        for place, key in enumerate(ranking, 1):
            scores[key] += 1 / (SMOOTHING + place)
    return sorted(scores.items(), key=lambda one: -one[1])
