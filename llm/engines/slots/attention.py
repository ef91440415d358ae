"""Which rows of a step attend to what: planned once, used by every layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llm.engines.slots.cache import Pool, Slot
from ocr.engines.torch_library import import_torch

torch = import_torch()


@dataclass(slots=True, eq=False)
class Part:
    """What a step reads of one answer: `tokens` that follow what its slot holds already.

    `wanted`: of how many of them, from the last on, the logits are wanted.
    """

    slot: Slot
    tokens: Sequence[int]
    wanted: int
    adapter: Any = None


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that one call of attention serves: neighbouring slots of a pool, one token each; or
    one slot with several tokens.

    `rows` are those of the step, `slots` those of the pool; `masks` (plain, sliding) are added to
    the scores, of shape (slots, 1, tokens, length).
    """

    pool: Pool
    rows: slice
    slots: slice
    tokens: int
    length: int
    masks: tuple[Any, Any]


class Plan:
    """A step over `parts`: their tokens one behind the other, each part's as a run of rows."""

    def __init__(
        self, parts: Sequence[Part], *, window: int | None, dtype: Any, device: Any
    ) -> None:
        """`window`: how far layers look back that slide."""
        self._window, self._dtype, self._device = window, dtype, device
        # Neighbours in a pool become neighbours in the batch.
        self.order = sorted(
            range(len(parts)),
            key=lambda at: (
                len(parts[at].tokens) > 1,
                parts[at].slot.pool.capacity,
                parts[at].slot.row,
            ),
        )
        self.parts = [parts[at] for at in self.order]
        tokens = [token for part in self.parts for token in part.tokens]
        positions = [part.slot.length + at for part in self.parts for at in range(len(part.tokens))]
        self.tokens = torch.tensor(tokens, device=device)
        self.positions = torch.tensor(positions, device=device)
        self.groups = list(self._grouped())
        self.writes = self._write_places()

    def wanted_rows(self) -> Any:
        """Rows whose logits are wanted, part by part in the order of `parts` as given."""
        ends, start = {}, 0
        for at, part in zip(self.order, self.parts, strict=True):
            start += len(part.tokens)
            ends[at] = (start - part.wanted, start)
        rows = [row for at in sorted(ends) for row in range(*ends[at])]
        return torch.tensor(rows, device=self._device)

    def adapted(self) -> list[tuple[Any, Any]]:
        """(adapter, its rows; None for all of them) for each adapter in the step."""
        rows: dict[Any, list[int]] = {}
        start = 0
        for part in self.parts:
            if part.adapter is not None:
                rows.setdefault(part.adapter, []).extend(range(start, start + len(part.tokens)))
            start += len(part.tokens)
        return [
            (adapter, None if len(own) == start else torch.tensor(own, device=self._device))
            for adapter, own in rows.items()
        ]

    def _grouped(self) -> Any:
        start, run = 0, []
        for part in self.parts:
            last = run[-1].slot if run else None
            joins = (
                last is not None
                and len(part.tokens) == 1
                and part.slot.pool is last.pool
                and part.slot.row == last.row + 1
                and len(run[-1].tokens) == 1
            )
            if run and not joins:
                yield self._make(run, start)
                start += sum(len(one.tokens) for one in run)
                run = []
            run.append(part)
        if run:
            yield self._make(run, start)

    def _make(self, run: list[Part], start: int) -> Group:
        tokens = len(run[0].tokens)
        rows = tokens * len(run)
        length = max(part.slot.length for part in run) + tokens
        first = run[0].slot.row
        positions = self.positions[start : start + rows].view(len(run), tokens, 1)
        return Group(
            run[0].slot.pool,
            slice(start, start + rows),
            slice(first, first + len(run)),
            tokens,
            length,
            self._masks(positions, length),
        )

    def _masks(self, positions: Any, length: int) -> tuple[Any, Any]:
        """0 where a token may look, -inf elsewhere."""
        keys = torch.arange(length, device=self._device)
        unseen = keys > positions
        plain = self._additive(unseen)
        if self._window is None or self._window >= length:
            return plain, plain
        return plain, self._additive(unseen | (keys <= positions - self._window))

    def _additive(self, unseen: Any) -> Any:
        mask = torch.zeros(unseen.shape, dtype=self._dtype, device=self._device)
        return mask.masked_fill_(unseen, float("-inf")).unsqueeze(1)

    def _write_places(self) -> list[tuple[Pool, Any, Any, Any]]:
        """For each pool: it, the rows of the step that go there, their slots and positions."""
        places: dict[int, tuple[Pool, list[int], list[int]]] = {}
        start = 0
        for part in self.parts:
            pool, rows, slots = places.setdefault(part.slot.pool.capacity, (part.slot.pool, [], []))
            rows.extend(range(start, start + len(part.tokens)))
            slots.extend([part.slot.row] * len(part.tokens))
            start += len(part.tokens)
        found = []
        for pool, rows, slots in places.values():
            own = None if len(rows) == start else torch.tensor(rows, device=self._device)
            at = self.positions if own is None else self.positions[own]
            found.append((pool, own, torch.tensor(slots, device=self._device), at))
        return found
