"""How likely a model holds the answers of rows: one forward pass, nothing is written."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from finetune.engines.scoring_tokens import Asked
from ocr.engines.torch_library import import_torch

torch = import_torch()

# Scores of the vocabulary at a time: 256 MB of them on a CPU, 1 GB on a GPU.
SCORES_CPU, SCORES_GPU = 2**26, 2**28


@dataclass(frozen=True, slots=True)
class Measured:
    """Of one answer: its negative log-likelihood in nats, its tokens, and how many of these were
    the likeliest at their place."""

    loss: float
    tokens: int
    right: int


def with_adapter(model: Any, folder: str) -> Any:
    peft = importlib.import_module("peft")
    return peft.PeftModel.from_pretrained(model, folder).eval()


def measured(
    model: Any, rows: Sequence[tuple[int, Asked]], *, context: int
) -> Iterator[tuple[int, Measured | None]]:
    """(key, figures) of each row, the shortest first; None for one that is too long."""
    size = int(model.config.get_text_config().vocab_size)
    most = (SCORES_CPU if model.device.type == "cpu" else SCORES_GPU) // size
    batch: list[tuple[int, Asked]] = []
    for key, row in sorted(rows, key=lambda one: len(one[1])):
        if len(row) > context or not row.answer:
            yield key, None
            continue
        if batch and len(row) * (len(batch) + 1) > most:
            yield from _forward(model, batch)
            batch = []
        batch.append((key, row))
    if batch:
        yield from _forward(model, batch)


@torch.inference_mode()
def _forward(model: Any, batch: list[tuple[int, Asked]]) -> Iterator[tuple[int, Measured]]:
    width = max(len(row) for _key, row in batch)
    ids = torch.zeros((len(batch), width), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for place, (_key, row) in enumerate(batch):
        ids[place, : len(row)] = torch.tensor([*row.prompt, *row.answer])
        mask[place, : len(row)] = 1
    logits = model(
        input_ids=ids.to(model.device), attention_mask=mask.to(model.device), use_cache=False
    ).logits
    for place, (key, row) in enumerate(batch):
        # Nothing stands before the first token of all.
        start = max(1, len(row.prompt))
        scores = logits[place, start - 1 : len(row) - 1].float()
        labels = ids[place, start : len(row)].to(scores.device)
        loss = torch.nn.functional.cross_entropy(scores, labels, reduction="sum")
        right = (scores.argmax(-1) == labels).sum()
        yield key, Measured(float(loss), len(labels), int(right))
