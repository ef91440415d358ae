"""The rows of a training as datasets of tokens: files mapped into memory, not held in it."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from finetune.engines.base import ROWS, Teller, TrainingFailed, TrainSpec
from finetune.engines.configs import LanguageConfig
from finetune.engines.tokens import Example, Pair, Row, RowTokens

TRAIN, VALIDATION = "train", "validation"
TOKENS = "tokens"
# Rows between two looks at whether to stop, and in one piece of a file.
PIECE = 500

_IDS = pa.list_(pa.int32())
# A row's columns, and the examples that they came from.
Made = tuple[list[list[int]], list[Example]]


class StopAsked(Exception):
    """Asked to stop before there was anything to save."""


@dataclass(slots=True)
class Counts:
    """What the rows came to. `dropped`: nothing to learn was left of them. `longest` in tokens."""

    rows: int = 0
    examples: int = 0
    tokens: int = 0
    learned: int = 0
    cut: int = 0
    dropped: int = 0
    longest: int = 0

    def add(self, examples: list[Example]) -> None:
        self.rows += 1
        self.dropped += not examples
        for example in examples:
            self.examples += 1
            self.tokens += len(example.ids)
            self.learned += sum(example.loss)
            self.cut += example.cut
            self.longest = max(self.longest, len(example.ids))


@dataclass(frozen=True, slots=True)
class Form:
    """How a method's rows lie in a file: its columns, and what makes them of a row."""

    columns: tuple[str, ...]
    make: Callable[[RowTokens, Row], list[Made]]


def _answers(tokens: RowTokens, row: Row) -> list[Made]:
    return [([one.ids, one.labels], [one]) for one in tokens.examples(row)]


def _pairs(tokens: RowTokens, row: Row) -> list[Made]:
    pair: Pair = tokens.pair(row)
    if not pair.chosen or not pair.rejected:
        return []
    return [([pair.prompt, pair.chosen, pair.rejected], list(pair.examples))]


ANSWERS = Form(("input_ids", "labels"), _answers)
PAIRS = Form(("prompt_ids", "chosen_ids", "rejected_ids"), _pairs)


@dataclass(slots=True)
class Prepared:
    """Rows as tokens, before any weights are loaded."""

    tokenizer: Any
    tokens: RowTokens
    counts: dict[str, Counts]
    rows: Any
    validation: Any

    @property
    def longest(self) -> int:
        return self.counts[TRAIN].longest


def prepare(
    spec: TrainSpec,
    config: LanguageConfig,
    tokenizer: Any,
    teller: Teller,
    form: Form,
    *,
    most: int = 0,
) -> Prepared:
    """Writes tokens beside the rows; of a machine's processes the first does, the others wait.

    `most`: of more rows only about so many, evenly spread, are taken; 0: all are.
    """
    accelerate = importlib.import_module("accelerate")
    answers_only = getattr(config, "answers_only", True)
    tokens = RowTokens(tokenizer, max_length=config.max_length, answers_only=answers_only)
    processes = accelerate.PartialState(cpu=config.device == "cpu")
    counts, datasets = {}, {}
    for split in (TRAIN, VALIDATION):
        path = spec.work / TOKENS / f"{split}.arrow"
        with processes.local_main_process_first():
            if processes.is_local_main_process:
                rows = rows_of(spec.work, split, most=most)
                write(path, rows, tokens, form, teller)
        counts[split], datasets[split] = counts_of(path), opened(path)
    if not len(datasets[TRAIN]):
        raise nothing_left(config)
    validation = datasets[VALIDATION] if len(datasets[VALIDATION]) else None
    return Prepared(tokenizer, tokens, counts, datasets[TRAIN], validation)


def rows_of(work: Path, split: str, *, most: int = 0) -> Iterator[Row]:
    """Of more than `most` rows every nth. Raises TrainingFailed for a line that is no JSON."""
    path = work / ROWS / f"{split}.jsonl"
    if not path.exists():
        return
    each = math.ceil(lines_of(work, split) / most) if most else 1
    with path.open("rb") as file:
        for number, line in enumerate(file):
            if number % max(1, each):
                continue
            try:
                yield json.loads(line)
            except ValueError as error:
                raise TrainingFailed(
                    f"Line {number + 1} of {path.name} is no JSON: {error}", code="bad_rows"
                ) from error


def lines_of(work: Path, split: str) -> int:
    path = work / ROWS / f"{split}.jsonl"
    if not path.exists():
        return 0
    with path.open("rb") as file:
        return sum(1 for _ in file)


def write(path: Path, rows: Iterable[Row], tokens: RowTokens, form: Form, teller: Teller) -> Counts:
    """Writes the rows' tokens as an Arrow file. Raises StopAsked."""
    counts = Counts()
    schema = pa.schema([(name, _IDS) for name in form.columns])
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for piece in _pieces(rows):
            if teller.asked_to_stop():
                raise StopAsked
            lines: list[list[list[int]]] = []
            for row in piece:
                made = form.make(tokens, row)
                counts.add([example for _, examples in made for example in examples])
                lines += [columns for columns, _ in made]
            if lines:
                columns = [pa.array(column, _IDS) for column in zip(*lines, strict=True)]
                writer.write_batch(pa.record_batch(columns, schema=schema))
    path.with_suffix(".json").write_text(json.dumps(asdict(counts)))
    return counts


def counts_of(path: Path) -> Counts:
    """As `write` has found them, perhaps in another process."""
    return Counts(**json.loads(path.with_suffix(".json").read_text()))


def opened(path: Path) -> Any:
    """A `datasets.Dataset` over the file."""
    from datasets import Dataset

    return Dataset.from_file(str(path))


def _pieces(rows: Iterable[Row]) -> Iterator[list[Row]]:
    left = iter(rows)
    while piece := list(islice(left, PIECE)):
        yield piece


def nothing_left(config: LanguageConfig) -> TrainingFailed:
    return TrainingFailed(
        f"Nothing is left to learn of the training rows within 'max_length' ({config.max_length} "
        "tokens): prompts alone are longer, or answers are empty. Raise it, or look at the rows.",
        code="bad_rows",
    )
