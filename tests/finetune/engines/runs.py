"""Trainings in this process: a folder with rows, and what is told while it works."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from finetune.engines import process
from finetune.engines.base import Event, Failed, TrainSpec
from finetune.engines.failures import failure
from llm.tiny.lessons import WORDS
from ocr.engines.torch_library import import_torch

AnyEvent = TypeVar("AnyEvent", bound=Event)
Row = Mapping[str, Any]
# On a busy machine importing the libraries alone takes half a minute.
SLOW = 300


@dataclass(slots=True)
class Told:
    """Keeps what it is told; asks to stop once it is told of step `stop_at`."""

    events: list[Event] = field(default_factory=list)
    stop_at: int = 0

    def tell(self, event: Event) -> None:
        self.events.append(event)

    def asked_to_stop(self) -> bool:
        steps = [getattr(event, "step", 0) for event in self.events]
        return bool(self.stop_at) and max(steps, default=0) >= self.stop_at

    def all(self, kind: type[AnyEvent]) -> list[AnyEvent]:
        return [event for event in self.events if isinstance(event, kind)]

    def one(self, kind: type[AnyEvent]) -> AnyEvent:
        assert self.all(kind), self.events
        return self.all(kind)[-1]

    def curve(self, name: str) -> list[float]:
        from finetune.engines.base import Metrics

        return [event.values[name] for event in self.all(Metrics) if name in event.values]


def spec(
    folder: Path,
    base: Path,
    train: Iterable[Row],
    validation: Iterable[Row] = (),
    *,
    method: str = "sft",
    given: Mapping[str, Any] | None = None,
    **options: Any,
) -> TrainSpec:
    """`given`: further fields of the spec; `options` are the method's."""
    rows = folder / "rows"
    rows.mkdir(parents=True, exist_ok=True)
    for name, lines in (("train", train), ("validation", validation)):
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (rows / f"{name}.jsonl").write_text(text, encoding="utf-8")
    options = {"device": "cpu", "batch_size": 8, "log_steps": 1, "dtype": "float32"} | options
    fields = {"base": str(base), **(given or {})}
    return TrainSpec(method=method, options=options, folder=str(folder), **fields)


def run(spec: TrainSpec, *, stop_at: int = 0) -> Told:
    """As the process does it, on one thread: tiny models gain nothing from more."""
    torch, told = import_torch(), Told(stop_at=stop_at)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        process.trainer_of(spec.method)(spec, told)
    finally:
        torch.set_num_threads(threads)
    return told


def failed(spec: TrainSpec) -> Failed:
    """The event that the process would end with."""
    try:
        run(spec)
    except Exception as error:
        return failure(error, spec)
    raise AssertionError("it went well")


def chat(question: str, answer: str) -> Row:
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    }


def rotations(seed: int = 0) -> list[Row]:
    """All of three words; the first is to go to the end. Shuffled."""
    rows = [chat(f"Rotate: {a} {b} {c}", f"{b} {c} {a}") for a, b, c in permutations(WORDS, 3)]
    Random(seed).shuffle(rows)
    return rows
