"""Where the keys and values of all answers lie: pools of slots, a pool for each length."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ocr.engines.torch_library import import_torch

torch = import_torch()

# Lengths of slots: each four times the one before, so that an answer moves seldom.
SHORTEST = 512
GROWTH = 4
# A shared beginning shorter than this is read anew: copying it would not be quicker.
SHARED = 8


@dataclass(slots=True, eq=False)
class Slot:
    """A row of a pool. What an ended answer leaves in it serves prompts that begin like it.

    `tokens[:length]` are those whose keys and values lie here, read under the adapter with that
    mark.
    """

    pool: Pool
    row: int
    tokens: Sequence[int] = ()
    length: int = 0
    # Places that have ever been written to.
    written: int = 0
    adapter: object = None
    taken: bool = False
    used: int = 0


@dataclass(slots=True, eq=False)
class Pool:
    """Slots of one length. `layers`: for each a tensor (rows, 2 x heads, capacity, head size)."""

    capacity: int
    layers: list[Any] = field(default_factory=list)
    slots: list[Slot] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        return self.capacity * len(self.slots)


class SlotCache:
    """Gives slots to answers, out of at most `budget` tokens in all.

    A dense slot is read by attention as it stands, without gathering; pools by length keep a long
    answer from making the short ones beside it dear.
    """

    def __init__(
        self,
        *,
        layers: int,
        heads: int,
        head_size: int,
        dtype: Any,
        device: Any,
        context: int,
        budget: int,
        rows: int,
    ) -> None:
        self._shape = (2 * heads, head_size)
        self._kind = {"dtype": dtype, "device": device}
        self._layers, self._rows, self._budget = layers, rows, budget
        sizes = itertools.takewhile(
            lambda size: size < context, (SHORTEST * GROWTH**step for step in itertools.count())
        )
        self._pools = [Pool(capacity) for capacity in (*sizes, context)]
        self._clock = itertools.count(1)

    @staticmethod
    def bytes_per_token(layers: int, heads: int, head_size: int, dtype: Any) -> int:
        return layers * 2 * heads * head_size * dtype.itemsize

    @property
    def bytes(self) -> int:
        return sum(layer.nbytes for pool in self._pools for layer in pool.layers)

    @property
    def slots(self) -> Iterator[Slot]:
        return (slot for pool in self._pools for slot in pool.slots)

    def take(self, tokens: Sequence[int], need: int, adapter: object) -> Slot | None:
        """A slot for `need` tokens, which already holds as much of `tokens` as any other does.

        Its `length` says how much, at most all but the last token, whose logits are wanted. None
        if there is no room now.
        """
        pool = self._pool_for(need)
        best, shared = self.longest_shared(tokens, adapter)
        slot = None
        if best is None or best.taken or best.pool is not pool or 2 * shared <= best.length:
            slot = self._free_slot(pool, spare=best)
        if slot is not None and best is not None:
            self._copy(best, slot, shared)
        elif slot is None and best is not None and not best.taken and best.pool is pool:
            slot = best
        elif slot is None and best is not None:
            # What it could share may be what is in its way.
            slot, shared = self._free_slot(pool, spare=None), 0
        if slot is None:
            return None
        slot.tokens, slot.length, slot.adapter = tokens, shared, adapter
        slot.taken, slot.used = True, next(self._clock)
        return slot

    def grow(self, slot: Slot, need: int, wanted: int) -> Slot | None:
        """A slot of the same content with room for `need` tokens: this one, else one with room
        for `wanted`; None if there is none."""
        if need <= slot.pool.capacity:
            return slot
        larger = self._free_slot(self._pool_for(wanted), spare=slot)
        if larger is None:
            return None
        self._copy(slot, larger, slot.length)
        larger.tokens, larger.length, larger.adapter = slot.tokens, slot.length, slot.adapter
        larger.taken, larger.used = True, next(self._clock)
        slot.taken, slot.length, slot.tokens = False, 0, ()
        return larger

    def release(self, slot: Slot, *, keep: bool) -> None:
        """Ends the use of a slot; with `keep`, later prompts may share what lies in it."""
        slot.taken, slot.used = False, next(self._clock)
        if not keep:
            # It may hold what is no number, which would spoil even what it is multiplied by 0 for.
            for layer in slot.pool.layers:
                layer[slot.row, :, : slot.written] = 0
            slot.length, slot.used, slot.tokens, slot.adapter = 0, 0, (), None

    def longest_shared(self, tokens: Sequence[int], adapter: object) -> tuple[Slot | None, int]:
        """The slot whose content begins most like the prompt, and how many tokens they share."""
        best, most = None, SHARED - 1
        for slot in self.slots:
            if slot.length > most and slot.adapter is adapter:
                shared = common_length(slot.tokens, tokens, min(slot.length, len(tokens) - 1))
                if shared > most:
                    best, most = slot, shared
        return best, (most if best is not None else 0)

    def clear(self) -> None:
        for pool in self._pools:
            pool.layers, pool.slots = [], []

    def _pool_for(self, need: int) -> Pool:
        at = bisect_left([pool.capacity for pool in self._pools], need)
        return self._pools[at]

    def _free_slot(self, pool: Pool, *, spare: Slot | None) -> Slot | None:
        """An empty slot, else a new one while there is memory, else the least recently used."""
        free = [slot for slot in pool.slots if not slot.taken and slot is not spare]
        oldest = min(free, key=lambda slot: (slot.used, slot.row), default=None)
        if oldest is not None and not oldest.length:
            return oldest
        rows = len(pool.slots)
        if rows < self._rows and self._make_room(pool, spare):
            more = min(self._rows, max(4, 2 * rows))
            affordable = (self._budget - self._tokens()) // pool.capacity
            self._resize(pool, min(more, rows + affordable))
            return pool.slots[rows]
        return oldest

    def _make_room(self, pool: Pool, spare: Slot | None) -> bool:
        """Gives back what other pools hold for nobody, if one more slot does not fit else."""
        for other in self._pools:
            if self._tokens() + pool.capacity <= self._budget:
                return True
            if other is not pool:
                busy = [slot.row for slot in other.slots if slot.taken or slot is spare]
                self._resize(other, max(busy, default=-1) + 1)
        return self._tokens() + pool.capacity <= self._budget

    def _tokens(self) -> int:
        return sum(pool.tokens for pool in self._pools)

    def _resize(self, pool: Pool, rows: int) -> None:
        kept = pool.slots[:rows]
        shape = (rows, self._shape[0], pool.capacity, self._shape[1])
        before = list(pool.layers) or [None] * self._layers
        for at, old in enumerate(before):
            # Zeros, because what lies behind an answer's end is multiplied by 0, and garbage may
            # be no number. Memory that is never written to is never taken from the system.
            fresh = torch.zeros(shape, **self._kind)
            for slot in kept:
                fresh[slot.row, :, : slot.length] = old[slot.row, :, : slot.length]
            before[at] = fresh
        for slot in kept:
            slot.written = slot.length
        pool.layers = before if rows else []
        pool.slots = kept + [Slot(pool, row) for row in range(len(kept), rows)]

    @staticmethod
    def _copy(source: Slot, target: Slot, length: int) -> None:
        pairs = zip(source.pool.layers, target.pool.layers, strict=True)
        for old, new in pairs:
            new[target.row, :, :length] = old[source.row, :, :length]
        target.written = max(target.written, length)


def common_length(one: Sequence[int], other: Sequence[int], limit: int) -> int:
    """How many tokens two sequences have in common from the start, at most `limit`."""
    if limit <= 0 or one[0] != other[0]:
        return 0
    low, high = 1, limit
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
