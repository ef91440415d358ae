"""Vectors of texts: the last layer's, pooled, of unit length."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llm.engines.base import Embeddings
from mlops.exceptions import ApplicationError
from ocr.engines.torch_library import import_torch

torch = import_torch()

# Tokens in one forward pass.
BATCH_TOKENS = 4096
# sentence-transformers' names of what it pools, and ours.
_POOLINGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
}

# Token ids of whole texts -> for each its vectors, (tokens, hidden size).
Hidden = Callable[[Sequence[Sequence[int]]], list[Any]]


class Embedder:
    """Texts of like length go through the model together."""

    def __init__(self, hidden: Hidden, *, pooling: str, context_length: int) -> None:
        self._hidden: Hidden | None = hidden
        self._pooling, self._context_length = pooling, context_length
        # One pass at a time: more would only share the same processors.
        self._lock = threading.Lock()

    def embed(self, texts: Sequence[Sequence[int]]) -> Embeddings:
        """Raises ApplicationError for a text that is empty or too long."""
        for at, text in enumerate(texts):
            if not text:
                raise ApplicationError(
                    f"Text {at} is empty: give at least one token.",
                    code="empty_input",
                    param="input",
                )
            if len(text) > self._context_length:
                raise ApplicationError(
                    f"This model's maximum context length is {self._context_length} tokens. "
                    f"However, text {at} has {len(text)} tokens. Please reduce its length.",
                    code="context_length_exceeded",
                    param="input",
                )
        vectors: list[Any] = [None] * len(texts)
        with self._lock, torch.inference_mode():
            if self._hidden is None:
                raise unloaded()
            for some in _batches(texts):
                found = self._hidden([texts[at] for at in some])
                pooled = torch.stack([self._pool(states.float()) for states in found])
                unit = torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy()
                for at, vector in zip(some, unit, strict=True):
                    vectors[at] = vector
        return Embeddings(vectors, sum(len(text) for text in texts))

    def close(self) -> None:
        with self._lock:
            self._hidden = None

    def _pool(self, states: Any) -> Any:
        if self._pooling == "cls":
            return states[0]
        return states[-1] if self._pooling == "last" else states.mean(dim=0)


def unloaded() -> ApplicationError:
    return ApplicationError(
        "The model is being unloaded: send the request again.", code="model_unloaded", status=503
    )


def encoder_hidden(model: Any, *, pad: int) -> Hidden:
    """`Hidden` of a model of the library, padded and masked."""

    def hidden(texts: Sequence[Sequence[int]]) -> list[Any]:
        sizes = [len(text) for text in texts]
        tokens = torch.full((len(texts), max(sizes)), pad)
        mask = torch.zeros_like(tokens)
        for row, text in enumerate(texts):
            tokens[row, : len(text)] = torch.tensor(text)
            mask[row, : len(text)] = 1
        states = model(
            input_ids=tokens.to(model.device), attention_mask=mask.to(model.device)
        ).last_hidden_state
        return [row[:size] for row, size in zip(states, sizes, strict=True)]

    return hidden


def pooling_of(folder: Path | None) -> str:
    """What sentence-transformers' file beside the model says, else mean."""
    file = None if folder is None else folder / "1_Pooling" / "config.json"
    if file is None or not file.is_file():
        return "mean"
    said = json.loads(file.read_text())
    if "pooling_mode" in said:
        return {"lasttoken": "last"}.get(said["pooling_mode"], said["pooling_mode"])
    return next((ours for theirs, ours in _POOLINGS.items() if said.get(theirs)), "mean")


def _batches(texts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Places of texts, the longest first, so that little is padded."""
    batches: list[list[int]] = []
    longest = 0
    for at in sorted(range(len(texts)), key=lambda at: -len(texts[at])):
        if batches and longest * (len(batches[-1]) + 1) <= BATCH_TOKENS:
            batches[-1].append(at)
        else:
            batches.append([at])
            longest = len(texts[at])
    return batches
