"""How each answer's next token is chosen: by its own settings, together where that is quicker."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llm.engines.base import Sampling
from llm.engines.grammar import Matcher, fill_masks
from mlops.exceptions import ApplicationError
from ocr.engines.torch_library import import_torch

torch = import_torch()

# Below this a temperature divides logits into infinity; the choice is the greedy one anyway.
COLDEST = 1e-4
# Candidates that are looked at before all tokens are sorted, which takes far longer.
CANDIDATES = 256


@dataclass(frozen=True, slots=True)
class Choice:
    """A token; with `logprobs` asked for, its log-probability and the likeliest tokens'."""

    token: int
    logprob: float = 0.0
    top: tuple[tuple[int, float], ...] = ()


class Chooser:
    """One answer's settings, its own random numbers, and what it has said so far.

    Each sampled token takes exactly one random number, so that the same seed gives the same
    answer whatever runs beside it.
    """

    def __init__(
        self,
        sampling: Sampling,
        *,
        index: int,
        prompt: Sequence[int],
        limit: int,
        matcher: Matcher | None = None,
    ) -> None:
        """`limit`: tokens that the answer may have."""
        self.sampling, self.matcher, self.room = sampling, matcher, limit
        # Why its grammar can't be followed any more.
        self.failure: ApplicationError | None = None
        seed = None if sampling.seed is None else f"{sampling.seed} {index}"
        self._random = random.Random(seed)
        self.greedy = sampling.temperature < COLDEST
        self._bias = sorted(sampling.logit_bias.items())
        self._counts: Counter[int] = Counter()
        self._seen = set(prompt) if sampling.repetition_penalty != 1.0 else set()
        self._counts_matter = bool(sampling.presence_penalty or sampling.frequency_penalty)
        self.plain = self.greedy and not (
            self._bias
            or self._counts_matter
            or sampling.repetition_penalty != 1.0
            or sampling.logprobs is not None
            or matcher is not None
        )
        self.filters = bool(sampling.top_k or sampling.top_p < 1.0 or sampling.min_p)

    def accept(self, token: int) -> None:
        """Takes note of a chosen token. Raises ValueError for one that the grammar forbids."""
        self.room -= 1
        if self._counts_matter:
            self._counts[token] += 1
        if self.sampling.repetition_penalty != 1.0:
            self._seen.add(token)
        if self.matcher is not None:
            self.matcher.accept(token)

    def number(self) -> float:
        return self._random.random()

    def adjust(self, logits: Any) -> None:
        """Bias and penalties, on one row in place."""
        if self._seen:
            tokens = torch.tensor(sorted(self._seen), device=logits.device)
            own = logits[tokens]
            penalty = self.sampling.repetition_penalty
            logits[tokens] = torch.where(own > 0, own / penalty, own * penalty)
        if self._counts:
            tokens = torch.tensor(list(self._counts), device=logits.device)
            counts = torch.tensor(list(self._counts.values()), device=logits.device)
            logits[tokens] -= (
                counts * self.sampling.frequency_penalty + self.sampling.presence_penalty
            )
        if self._bias:
            tokens, values = zip(*self._bias, strict=True)
            logits[torch.tensor(tokens, device=logits.device)] += torch.tensor(
                values, device=logits.device
            )


def choose(logits: Any, choosers: Sequence[Chooser]) -> list[Choice]:
    """A token for each row of `logits`, float32 of shape (rows, vocabulary), which is changed."""
    special = [at for at, chooser in enumerate(choosers) if not chooser.plain]
    if not special:
        return [Choice(token) for token in _best(logits, choosers).tolist()]
    # The model's own, before anything changes them.
    told = {
        at: logits[at].log_softmax(-1)
        for at in special
        if choosers[at].sampling.logprobs is not None
    }
    for at in special:
        choosers[at].adjust(logits[at])
    _follow_grammars(logits, choosers)
    tokens = _best(logits, choosers)
    sampled = [at for at in special if not choosers[at].greedy]
    if sampled:
        own = logits if len(sampled) == len(choosers) else logits[sampled]
        tokens[sampled] = _sample(own, [choosers[at] for at in sampled])
    return [
        _told(token, told[at], choosers[at].sampling.logprobs) if at in told else Choice(token)
        for at, token in enumerate(tokens.tolist())
    ]


def _best(logits: Any, choosers: Sequence[Chooser]) -> Any:
    """The likeliest token of each row. Where none has a probability, its chooser is told."""
    values, tokens = logits.max(-1)
    for at in (~values.isfinite()).nonzero().flatten().tolist():
        choosers[at].failure = choosers[at].failure or ApplicationError(
            "The model's probabilities are no numbers: its weights are damaged, or too large for "
            "its dtype (float16 overflows where bfloat16 and float32 do not).",
            code="model_failed",
            status=500,
        )
    return tokens


def _follow_grammars(logits: Any, choosers: Sequence[Chooser]) -> None:
    matchers = [chooser.matcher for chooser in choosers]
    rooms = [chooser.room for chooser in choosers]
    try:
        fill_masks(matchers, logits, rooms)
    except ApplicationError:
        # One by one, to tell whose it is.
        for at, chooser in enumerate(choosers):
            try:
                fill_masks(matchers[at : at + 1], logits[at : at + 1], rooms[at : at + 1])
            except ApplicationError as error:
                chooser.failure = error


def _told(token: int, logprobs: Any, alternatives: int | None) -> Choice:
    values, tokens = logprobs.topk(min(alternatives or 0, len(logprobs)))
    top = tuple(zip(tokens.tolist(), values.tolist(), strict=True))
    return Choice(token, float(logprobs[token]), top)


def _sample(rows: Any, choosers: Sequence[Chooser]) -> Any:
    """One token a row, by inverting the cumulated probabilities at the row's random number."""
    device = rows.device
    heat = torch.tensor([[chooser.sampling.temperature] for chooser in choosers], device=device)
    probabilities = torch.softmax(rows / heat, dim=-1)
    filtered = [at for at, chooser in enumerate(choosers) if chooser.filters]
    if filtered:
        own = [choosers[at].sampling for at in filtered]
        probabilities[filtered] = _filter(probabilities[filtered], own)
    numbers = torch.tensor([[chooser.number()] for chooser in choosers], dtype=torch.float64)
    cumulated = probabilities.cumsum(-1, dtype=torch.float64)
    at = torch.searchsorted(cumulated, numbers.to(device) * cumulated[:, -1:], right=True)
    return at[:, 0].clamp_max(rows.shape[1] - 1)


def _filter(probabilities: Any, settings: Sequence[Sampling]) -> Any:
    """Zero for what top_k, top_p and min_p rule out, in this order; ties keep the lower token."""
    size = probabilities.shape[1]
    count = min(size, max(CANDIDATES, *(sampling.top_k for sampling in settings)))
    values, tokens = probabilities.topk(count, dim=-1)
    kept = torch.stack([_kept(row, one) for row, one in zip(values, settings, strict=True)])
    found = torch.zeros_like(probabilities).scatter_(1, tokens, values * kept)
    # Where the last candidate was kept, more might be: these rows are sorted whole.
    if count < size:
        for at, one in enumerate(settings):
            if kept[at, -1] and not 0 < one.top_k <= count:
                values, tokens = probabilities[at].sort(descending=True)
                found[at] = 0
                found[at].scatter_(0, tokens, values * _kept(values, one))
    return found


def _kept(values: Any, sampling: Sampling) -> Any:
    """Which of a row's probabilities, in falling order, stay."""
    kept = torch.ones_like(values, dtype=torch.bool)
    if sampling.top_k:
        kept[sampling.top_k :] = False
    if sampling.top_p < 1.0:
        share = values * kept
        total = share.sum() if sampling.top_k else 1.0
        kept &= share.cumsum(0) - share < sampling.top_p * total
    if sampling.min_p:
        kept &= values >= sampling.min_p * values[0]
    # Whatever was asked for, one token stays.
    kept[0] = True
    return kept
