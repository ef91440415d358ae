"""Everything that can be known before a training begins: its rows, memory, time and disk.

The report of `Looked`:

    examples   three rows: {runs: [{text, loss}], tokens, learned, cut_off}
    rows, sampled, validation_rows, dropped, truncated (share), lengths {p50, p90, p99, most}
    tokens     of one pass; tokens_in_all of all
    steps, epoch_steps, settings (what "auto" becomes)
    memory     {kind: RAM | VRAM, available, weights, gradients, optimizer, activations, process,
                total, measured}: bytes; measured is the peak of the steps tried, or None
    time       {seconds_a_step, seconds, measured_steps}; by formula alone where none was tried
    disk       {folder, free, checkpoint, needed}: bytes
    warnings   what may go wrong, and what to do about it
"""

from __future__ import annotations

import importlib
import math
import resource
import time
from itertools import islice
from typing import Any

from finetune.engines import forecast, language, prepared
from finetune.engines.base import Looked, Phase, Stopped, Teller, TrainSpec
from finetune.engines.configs import LanguageConfig
from finetune.engines.fitting import batch_of, shape_of
from finetune.engines.language import Place, config_of
from finetune.engines.memory import Shape, available_bytes
from finetune.engines.prepared import TRAIN, VALIDATION, Prepared, StopAsked, prepare
from finetune.engines.tokens import Example
from finetune.engines.trainers import Batch, Method, build, packed, packs, rate_of
from ocr.engines.torch_library import import_torch

torch = import_torch()
transformers = importlib.import_module("transformers")

SHOWN = 3
# Rows that are read; of more, about so many, evenly spread.
MOST_ROWS = 20_000

Report = dict[str, Any]


def look(spec: TrainSpec, teller: Teller, method: Method) -> None:
    """Tells `Looked`. Raises TrainingFailed for what would end the training too."""
    try:
        teller.tell(Looked(report=_report(spec, teller, method)))
    except StopAsked:
        teller.tell(Stopped(step=0))


def _report(spec: TrainSpec, teller: Teller, method: Method) -> Report:
    config, free = config_of(spec), available_bytes()
    teller.tell(Phase(name="loading", message="tokenizer"))
    place = language.place_of(config)
    tokenizer = language.tokenizer_of(spec)
    config = language.within_context(spec, config)
    teller.tell(Phase(name="preparing"))
    rows = prepare(spec, config, tokenizer, teller, method.form, most=MOST_ROWS)
    batch = batch_of(spec, config, place, rows, method, teller)
    found = _of_rows(spec, config, rows, method)
    found |= _of_steps(config, place, rows, batch, method, found["rows"])
    if spec.measured_steps:
        shape, measured = _measured(spec, config, rows, batch, method, teller)
    else:
        shape, measured = shape_of(spec, config), {}
    if place.device == "cuda":
        free = torch.cuda.get_device_properties(0).total_memory
    found["memory"] = forecast.memory(
        config, place, shape, batch.size, rows.longest, pairs=method.pairs
    ) | {"available": free, "measured": measured.get("peak")}
    found["time"] = forecast.duration(config, place, shape, found, measured)
    found["disk"] = forecast.disk(spec.work, config, shape)
    found["settings"] = {
        "batch_size": batch.size,
        "gradient_accumulation": batch.accumulation,
        "learning_rate": rate_of(config, method),
        "dtype": place.dtype,
        "device": torch.cuda.get_device_name() if place.device == "cuda" else "cpu",
        "packing": packs(config, place) and not method.pairs,
        "parameters": shape.parameters,
        "trainable_parameters": shape.trainable,
    }
    found["warnings"] = forecast.warnings(found, config, tokenizer.eos_token)
    if message := language.not_served(spec, config):
        found["warnings"].append(message)
    return found


def _of_rows(spec: TrainSpec, config: LanguageConfig, rows: Prepared, method: Method) -> Report:
    counts, in_all = rows.counts[TRAIN], prepared.lines_of(spec.work, TRAIN)
    times = in_all / counts.rows
    lengths = sorted(_lengths(rows, method))
    return {
        "examples": [_shown(one) for one in islice(_examples(spec, rows, method), SHOWN)],
        "rows": in_all,
        "sampled": counts.rows,
        "validation_rows": prepared.lines_of(spec.work, VALIDATION),
        "dropped": round(counts.dropped * times),
        "truncated": counts.cut / max(1, counts.examples),
        "lengths": {
            name: lengths[min(len(lengths) - 1, int(share * len(lengths)))]
            for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("most", 1.0))
        },
        "tokens": round(counts.tokens * times),
        "tokens_in_all": round(counts.tokens * times * (config.epochs or 1)),
        "examples_in_all": round(counts.examples * times),
    }


def _lengths(rows: Prepared, method: Method) -> list[int]:
    """Tokens of each example, after cutting."""
    compute = importlib.import_module("pyarrow.compute")
    table = rows.rows.data
    whole = None
    for name in method.form.columns[:2] if method.pairs else method.form.columns[:1]:
        lengths = compute.list_value_length(table.column(name))
        whole = lengths if whole is None else compute.add(whole, lengths)
    return whole.to_pylist() if whole is not None else []


def _examples(spec: TrainSpec, rows: Prepared, method: Method) -> Any:
    for row in prepared.rows_of(spec.work, TRAIN):
        for _, examples in method.form.make(rows.tokens, row):
            yield from examples


def _shown(example: Example) -> Report:
    """Its text in pieces, those that carry loss and those that don't."""
    runs: list[dict[str, Any]] = []
    begin = 0
    for learned, end in zip(example.loss, example.ends, strict=True):
        text = example.text[begin:end]
        begin = max(begin, end)
        if runs and runs[-1]["loss"] == learned:
            runs[-1]["text"] += text
        elif text:
            runs.append({"text": text, "loss": learned})
    return {
        "runs": runs,
        "tokens": len(example.ids),
        "learned": sum(example.loss),
        "cut_off": example.cut,
    }


def _of_steps(
    config: LanguageConfig, place: Place, rows: Prepared, batch: Batch, method: Method, in_all: int
) -> Report:
    counts = rows.counts[TRAIN]
    sequences = counts.examples / (2 if method.pairs else 1) * in_all / counts.rows
    size = batch.size
    if packs(config, place) and not method.pairs:
        sequence = packed(counts, batch, config.max_length)
        sequences = counts.tokens * in_all / counts.rows / sequence.length
        size = sequence.count
    epoch = max(1, math.ceil(sequences / size / config.processes / batch.accumulation))
    return {"epoch_steps": epoch, "steps": config.max_steps or math.ceil(config.epochs * epoch)}


class _Clock(transformers.TrainerCallback):
    """When each step ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.times.append(time.monotonic())

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.times.append(time.monotonic())


def _measured(
    spec: TrainSpec,
    config: LanguageConfig,
    rows: Prepared,
    batch: Batch,
    method: Method,
    teller: Teller,
) -> tuple[Shape, Report]:
    """Real steps, of which nothing is kept."""
    teller.tell(Phase(name="loading", message="model"))
    base = language.load(spec, config, rows.tokenizer)
    others = {"max_steps": spec.measured_steps, "save_strategy": "no", "eval_strategy": "no"}
    trainer = build(spec, config, base, rows, batch, method, **others)
    parameters = sum(one.numel() for one in trainer.model.parameters())
    trained = sum(one.numel() for one in trainer.model.parameters() if one.requires_grad)
    shape = Shape.of(trainer.model.config.to_dict(), parameters=parameters, trainable=trained)
    clock = _Clock()
    trainer.add_callback(clock)
    trainer.remove_callback(transformers.PrinterCallback)
    teller.tell(Phase(name="measuring", message=f"{spec.measured_steps} steps"))
    trainer.train()
    steps = [after - before for before, after in zip(clock.times, clock.times[1:], strict=False)]
    # The first one makes ready what the others use.
    steady = steps[1:] or steps
    if base.place.device == "cuda":
        peak = torch.cuda.max_memory_reserved()
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return shape, {"seconds": sum(steady) / len(steady), "steps": len(steps), "peak": peak}
