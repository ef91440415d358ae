"""Any causal model of the library, by its own forward pass: what `llama.py` does not know."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from llm.engines.slots.attention import Part
from llm.engines.slots.cache import Slot
from ocr.engines.torch_library import import_torch

torch = import_torch()


class PlainSlot(Slot):
    """One answer's keys and values, or whatever its model keeps, until it joins the others'."""

    def __init__(self) -> None:
        super().__init__(pool=None, row=0)
        self.cache: Any = None


class PlainCache:
    """A cache of its own for each answer; nothing is shared, moved or taken back."""

    def __init__(self, model: Plain) -> None:
        self._model = model

    @property
    def bytes(self) -> int:
        return self._model.cache_bytes

    def take(self, tokens: Sequence[int], need: int, adapter: object) -> Slot:
        slot = PlainSlot()
        slot.tokens = tokens
        self._model.slots.add(slot)
        return slot

    def grow(self, slot: Slot, need: int, wanted: int) -> Slot:
        return slot

    def release(self, slot: Slot, *, keep: bool) -> None:
        self._model.slots.discard(slot)
        if not self._model.slots:
            self._model.regroup([])

    def longest_shared(self, tokens: Sequence[int], adapter: object) -> tuple[None, int]:
        return None, 0

    def clear(self) -> None:
        self._model.slots.clear()
        self._model.regroup([])


class Plain:
    """Reads prompts one by one; then the answers under way go on together.

    Together means padded on the left, in one cache of the library's. Models with another kind of
    memory (windows, states), or that are put out by padding, take their turns instead: whether
    they are is tried once.
    """

    def __init__(self, model: Any, *, together: bool) -> None:
        """`together`: False for a model that is known to be put out by the others' lengths."""
        self._model = model
        self.device, self.dtype = model.device, model.dtype
        self.bytes = model.get_memory_footprint()
        self.slots: set[PlainSlot] = set()
        # The answers that go on together, a row each, and their common cache.
        self._rows: list[PlainSlot] = []
        self._cache: Any = None
        self.together = False
        self.together = together and self._agrees_with_itself()

    @property
    def cache_bytes(self) -> int:
        caches = [self._cache, *(slot.cache for slot in list(self.slots))]
        return sum(
            value.nbytes
            for cache in caches
            if cache is not None
            for layer in cache.layers
            for value in list(vars(layer).values())
            if isinstance(value, torch.Tensor)
        )

    def step(self, parts: Sequence[Part]) -> Any:
        """As `Llama.step`."""
        found: dict[int, Any] = {}
        going = []
        for at, part in enumerate(parts):
            if self.together and len(part.tokens) == 1 and part.slot.length:
                going.append(at)
                continue
            logits = self._read(part)
            if part.wanted:
                found[at] = logits
        if going:
            found |= zip(going, self._go_on([parts[at] for at in going]), strict=True)
        return torch.cat([found[at] for at in sorted(found)]) if found else None

    def regroup(self, slots: Sequence[PlainSlot]) -> None:
        """Makes these the rows of the common cache: some leave it, some join."""
        if not slots:
            self._rows, self._cache = [], None
            return
        width = max(slot.length for slot in slots)
        places = {slot: row for row, slot in enumerate(self._rows)}
        kept = [slot for slot in slots if slot in places]
        joining = [slot for slot in slots if slot not in places]
        rows = torch.tensor([places[slot] for slot in kept], device=self.device)
        joint = importlib.import_module("transformers").DynamicCache(config=self._model.config)
        for at in range(len((joining[0].cache if joining else self._cache).layers)):
            sides: tuple[list[Any], list[Any]] = ([], [])
            if kept:
                layer = self._cache.layers[at]
                sides[0].append(_fitted(layer.keys[rows], width))
                sides[1].append(_fitted(layer.values[rows], width))
            for slot in joining:
                layer = slot.cache.layers[at]
                sides[0].append(_fitted(layer.keys, width))
                sides[1].append(_fitted(layer.values, width))
            joint.update(torch.cat(sides[0]), torch.cat(sides[1]), at)
        for slot in joining:
            slot.cache = None
        self._rows, self._cache = [*kept, *joining], joint

    def _go_on(self, parts: Sequence[Part]) -> list[Any]:
        """One token of each answer; logits in the order of the parts, (1, vocabulary) each."""
        own = {part.slot: part for part in parts}
        if set(self._rows) != set(own):
            self.regroup([*(slot for slot in self._rows if slot in own), *own.keys() - self._rows])
        lengths = torch.tensor([[slot.length] for slot in self._rows], device=self.device)
        places = torch.arange(self._cache.get_seq_length() + 1, device=self.device)
        out = self._model(
            input_ids=torch.tensor([own[slot].tokens for slot in self._rows], device=self.device),
            attention_mask=(places >= len(places) - 1 - lengths).long(),
            position_ids=lengths,
            past_key_values=self._cache,
            use_cache=True,
        )
        logits = dict(zip(self._rows, out.logits[:, -1:].float(), strict=True))
        for slot in self._rows:
            slot.length += 1
        return [logits[part.slot] for part in parts]

    def _read(self, part: Part) -> Any:
        """The part's tokens, behind what its slot holds; logits (wanted, vocabulary)."""
        out = self._model(
            input_ids=torch.tensor([part.tokens], device=self.device),
            past_key_values=part.slot.cache,
            use_cache=True,
            logits_to_keep=max(1, part.wanted),
        )
        part.slot.cache = out.past_key_values
        part.slot.length += len(part.tokens)
        return out.logits[0].float()

    def _agrees_with_itself(self) -> bool:
        """Whether two answers that go on together say what each says alone."""
        size = self._model.config.get_text_config().vocab_size
        prompts = [[(5 * at + 2) % size for at in range(length)] for length in (9, 4)]
        with torch.inference_mode():
            alone = [PlainSlot() for _ in prompts]
            joined = [PlainSlot() for _ in prompts]
            for slots in (alone, joined):
                for slot, prompt in zip(slots, prompts, strict=True):
                    self._read(Part(slot, prompt, 1))
            layers = joined[0].cache.layers if isinstance(joined[0].cache, _cache_class()) else []
            if not layers or any(type(layer) is not _layer_class() for layer in layers):
                return False
            for _ in range(2):
                wanted = torch.cat([self._read(Part(slot, [3], 1)) for slot in alone])
                found = torch.cat(self._go_on([Part(slot, [3], 1) for slot in joined]))
            self.regroup([])
        return float((found - wanted).abs().max() / wanted.std()) < 0.2


def _cache_class() -> type:
    return importlib.import_module("transformers").DynamicCache


def _layer_class() -> type:
    return importlib.import_module("transformers.cache_utils").DynamicLayer


def _fitted(states: Any, width: int) -> Any:
    """(rows, heads, length, size) with as many places, the last ones kept, zeros in front."""
    short = width - states.shape[2]
    if short > 0:
        return torch.nn.functional.pad(states, (0, 0, short, 0))
    return states[:, :, -short:] if short else states
