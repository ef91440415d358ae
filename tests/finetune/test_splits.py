"""Splits go by group, are about as large as asked, and stay what they are as data grows."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.content.facts import TEST, TRAIN, VALIDATION
from finetune.splits import Shares, places, split_groups
from mlops.exceptions import ApplicationError

GROUPS = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=60)
SHARES = st.sampled_from(
    [Shares(), Shares(0.2, 0.2), Shares(0, 0.5), Shares(0.01, 0), Shares(0, 0)]
)


def split(groups: list[int], shares: Shares, seed: int = 0, pins: dict[int, int] | None = None):
    found, pinned = split_groups(
        np.array(groups, dtype=np.uint64), shares=shares, seed=seed, pins=pins
    )
    return dict(zip(groups, found.tolist(), strict=True)), found.tolist(), pinned


@settings(max_examples=150, deadline=None)
@given(first=GROUPS, more=GROUPS, shares=SHARES, seed=st.integers(0, 2**53), data=st.data())
def test_a_test_split_is_contained_in_that_of_more_data(first, more, shares, seed, data) -> None:
    before, rows, pins = split(first, shares, seed)
    # A group's rows are together, whatever order they come in.
    assert all(before[group] == one for group, one in zip(first, rows, strict=True))
    grown = data.draw(st.permutations([*first, *more]))
    after, _rows, _pins = split(grown, shares, seed, pins)
    for group, one in before.items():
        if one == TEST:
            assert after[group] == TEST
    # And another one after that, which must keep to both.
    later, _rows, _pins = split([*grown, 1, 2, 3], shares, seed, _pins)
    assert all(later[group] == TEST for group, one in after.items() if one == TEST)


@settings(max_examples=100, deadline=None)
@given(groups=GROUPS, shares=SHARES, seed=st.integers(0, 2**53))
def test_each_split_that_is_asked_for_has_a_row_where_there_are_enough_groups(
    groups, shares, seed
) -> None:
    _by_group, rows, _pins = split(groups, shares, seed)
    counts, several = Counter(rows), len(set(groups))
    assert counts[TRAIN] >= 1
    assert (counts[TEST] > 0) == (shares.test > 0 and several >= 2)
    if shares.validation and several >= 10:
        assert counts[VALIDATION] > 0
    if not shares.validation:
        assert counts[VALIDATION] == 0


def test_sizes_are_about_as_asked_and_seeds_differ() -> None:
    groups = np.arange(20_000, dtype=np.uint64)
    one, _pins = split_groups(groups, shares=Shares(0.1, 0.2), seed=1)
    other, _pins = split_groups(groups, shares=Shares(0.1, 0.2), seed=2)
    sizes = Counter(one.tolist())
    assert abs(sizes[TEST] / 20_000 - 0.2) < 0.01
    assert abs(sizes[VALIDATION] / 20_000 - 0.1) < 0.01
    # Independent seeds agree on the test of a fifth times a fifth.
    both = ((one == TEST) & (other == TEST)).mean()
    assert abs(both - 0.04) < 0.01


def test_places_are_the_same_on_every_machine() -> None:
    """Versions that were split years ago must be split the same way today."""
    found = places(np.array([0, 1, 2**64 - 1], dtype=np.uint64), seed=7)
    assert found.tolist() == pytest.approx([EXPECTED[0], EXPECTED[1], EXPECTED[2]], abs=1e-15)


# Computed apart, with Python's integers, from the published constants.
def _splitmix(value: int) -> int:
    mask = 2**64 - 1
    value = (value + 0x9E3779B97F4A7C15) & mask
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
    return value ^ (value >> 31)


EXPECTED = [(_splitmix(group ^ _splitmix(7)) >> 11) / 2**53 for group in (0, 1, 2**64 - 1)]


@pytest.mark.parametrize("shares", [Shares(0.5, 0.5), Shares(-0.1, 0.2), Shares(0, 1)])
def test_shares_that_leave_nothing_to_train_on(shares: Shares) -> None:
    with pytest.raises(ApplicationError, match="less than 1"):
        shares.checked()
