"""Which rows are for training, validation and test: by group, and stable as the data grows.

A group's place between 0 and 1 is a hash of the group and the seed alone; those below the test's
share are the test, and so on. So a group that is in a version stays in its split in the next one,
whatever is added, and a version's test split is contained in the next one's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetune.content.facts import SPLITS, TEST, TRAIN, VALIDATION
from mlops.exceptions import ApplicationError

if TYPE_CHECKING:
    import numpy as np

MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Shares:
    """Of the groups; what is left is for training."""

    validation: float = 0.05
    test: float = 0.05

    def checked(self) -> Shares:
        """Raises ApplicationError for shares that leave nothing to train on."""
        if min(self.validation, self.test) < 0 or self.validation + self.test >= 1:
            raise ApplicationError(
                f"The shares of validation ({self.validation}) and test ({self.test}) must be 0 or "
                "more and less than 1 together.",
                code="out_of_range",
                param="splits",
            )
        return self


# Groups that stand in a split for another reason than their hash: {group: split}.
Pins = Mapping[int, int]


def places(groups: np.ndarray, seed: int) -> np.ndarray:
    """Each group's place in [0, 1): SplitMix64 (Steele, Lea and Flood, 2014) of group and seed."""
    import numpy as np

    mixed = groups.astype(np.uint64) ^ np.uint64(_mixed(seed & MASK))
    mixed = mixed + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    # The upper 53 bits are all that a double holds.
    return (mixed >> np.uint64(11)).astype(np.float64) / float(1 << 53)


def _mixed(seed: int) -> int:
    """The seed's bits spread, so that neighbouring seeds have nothing in common."""
    mixed = (seed + 0x9E3779B97F4A7C15) & MASK
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB & MASK
    return mixed ^ (mixed >> 31)


def split_groups(
    groups: np.ndarray, *, shares: Shares, seed: int, pins: Pins | None = None
) -> tuple[np.ndarray, dict[int, int]]:
    """(split of each row, pins) of rows whose groups are given as 64-bit hashes.

    `pins` are those of the version before. A split that was asked for and got no group takes the
    one nearest to it from training, and that group is pinned: later versions leave it there.
    """
    import numpy as np

    pinned = dict(pins or {})
    names, rows = np.unique(groups, return_inverse=True)
    at = places(names, seed)
    chosen = np.full(len(names), TRAIN, dtype=np.uint8)
    chosen[at < shares.test + shares.validation] = VALIDATION
    chosen[at < shares.test] = TEST
    for group, split in pinned.items():
        place = int(np.searchsorted(names, np.uint64(group)))
        if place < len(names) and int(names[place]) == group:
            chosen[place] = split

    def pin(among: np.ndarray, split: int, *, last: bool = False) -> None:
        """Puts the group with the first, or the last, place among those into the split."""
        free = np.flatnonzero(among)
        one = free[np.argmax(at[free]) if last else np.argmin(at[free])]
        chosen[one] = split
        pinned[int(names[one])] = split

    # A single group is for training, and nothing is ever taken out of the test but by need.
    if shares.test and len(names) > 1 and not (chosen == TEST).any():
        pin(chosen != TEST, TEST)
    if not (chosen == TRAIN).any():
        outside = chosen != TEST
        pin(outside if outside.any() else chosen == TEST, TRAIN, last=True)
    wanted = shares.validation and not (chosen == VALIDATION).any()
    if wanted and (chosen == TRAIN).sum() > 1:
        pin(chosen == TRAIN, VALIDATION)
    return chosen[rows.reshape(-1)], pinned


def split_names() -> dict[int, str]:
    return {number: name for name, number in SPLITS.items()}
