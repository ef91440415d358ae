"""Runs requests on a loaded model, and says what the library's own `generate` makes of them."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from llm.engines.base import (
    Delta,
    Ended,
    Event,
    Failed,
    Finished,
    GenerationRequest,
    LoadedModel,
    ModelSource,
    Sampling,
    Usage,
)
from llm.engines.transformers import TransformersEngine
from ocr.engines.torch_library import import_torch

GREEDY = Sampling(max_tokens=24, temperature=0.0, ignore_eos=True)


@dataclass(slots=True)
class Run:
    """One request's events, as they come."""

    events: SimpleQueue[Event] = field(default_factory=SimpleQueue)
    seen: list[Event] = field(default_factory=list)

    def next(self) -> Event:
        event = self.events.get(timeout=60)
        self.seen.append(event)
        return event

    def finish(self) -> Run:
        while not (self.seen and isinstance(self.seen[-1], Ended | Failed)):
            self.next()
        return self

    def text(self, index: int = 0) -> str:
        return "".join(
            event.text for event in self.seen if isinstance(event, Delta) and event.index == index
        )

    def logprobs(self, index: int = 0) -> list[Any]:
        return [
            logprob
            for event in self.seen
            if isinstance(event, Delta) and event.index == index
            for logprob in event.logprobs
        ]

    def finished(self, index: int = 0) -> Finished:
        return next(
            event for event in self.seen if isinstance(event, Finished) and event.index == index
        )

    @property
    def usage(self) -> Usage:
        assert isinstance(self.seen[-1], Ended), self.seen[-1]
        return self.seen[-1].usage

    @property
    def failure(self) -> Failed:
        assert isinstance(self.seen[-1], Failed), self.seen[-1]
        return self.seen[-1]


def load(folder: Path, *, dtype: str = "float32", **source: Any) -> LoadedModel:
    """On one thread: tests run beside each other, and tiny models gain nothing from more."""
    options = {"threads": 1, **source.pop("options", {})}
    return TransformersEngine(device=source.pop("device", "cpu")).load(
        ModelSource(folder.name, str(folder), dtype=dtype, options=options, **source)
    )


def start(model: LoadedModel, request: GenerationRequest) -> Run:
    run = Run()
    model.submit(request, run.events.put)
    return run


def run_all(model: LoadedModel, requests: Iterable[GenerationRequest]) -> list[Run]:
    """All at once, so that they share steps."""
    return [run.finish() for run in [start(model, request) for request in requests]]


def run_one(model: LoadedModel, request: GenerationRequest) -> Run:
    return start(model, request).finish()


class Reference:
    """The library's model and tokenizer of the same folder."""

    def __init__(self, folder: Path, adapter: Path | None = None) -> None:
        self._torch = import_torch()
        transformers = importlib.import_module("transformers")
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=self._torch.float32
        )
        if adapter is not None:
            peft = importlib.import_module("peft")
            self.model = peft.PeftModel.from_pretrained(self.model, adapter)
        self.model.eval()

    def generate(self, prompt: str | Sequence[int], count: int = 24) -> list[int]:
        """The greedy answer's tokens; ends of text don't end it."""
        tokens = self.tokenizer(prompt)["input_ids"] if isinstance(prompt, str) else list(prompt)
        given = self._torch.tensor([tokens])
        made = self.model.generate(
            input_ids=given,
            attention_mask=self._torch.ones_like(given),
            do_sample=False,
            max_new_tokens=count,
            eos_token_id=-1,
        )
        return made[0, len(tokens) :].tolist()

    def text(self, tokens: Sequence[int]) -> str:
        ends = {self.tokenizer.eos_token_id, self.tokenizer.pad_token_id}
        return self.tokenizer.decode([token for token in tokens if token not in ends])

    def logits(self, tokens: Sequence[int]) -> Any:
        with self._torch.inference_mode():
            return self.model(input_ids=self._torch.tensor([list(tokens)])).logits[0].float()
