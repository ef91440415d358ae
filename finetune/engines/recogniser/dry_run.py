"""What can be known before a recogniser is trained; the report is as of `finetune.engines.dry_run`.

In place of tokens it counts characters. Beside what is there: `characters` {text, kinds: {letter:
lines}, only_in_validation}, `widths` of the scaled lines in pixels, and with each example its
`picture` as the network sees it, a PNG as a data URI.
"""

from __future__ import annotations

import base64
import math
import os
import resource
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import cv2
import numpy as np

from finetune.engines.base import Phase, Teller, TrainSpec
from finetune.engines.configs import OcrRecognitionConfig
from finetune.engines.memory import (
    CONTEXT_BYTES,
    PROCESS_BYTES,
    Estimate,
    available_bytes,
    in_words,
)
from finetune.engines.recogniser.batches import Collator, TrainLines, WidthSampler
from finetune.engines.recogniser.learner import Learner
from finetune.engines.recogniser.lines import filled_width
from finetune.engines.recogniser.rows import Prepared
from ocr.engines.torch_library import import_torch

torch = import_torch()

SHOWN = 3
FEW_STEPS, FEW_EXAMPLES = 100, 10
# Multiplications a second that such small convolutions reach, roughly: a core's, a GPU's.
CORE_SPEED, GPU_SPEED = 1.5e10, 2e12
BESIDE_BYTES = 1024**2

Report = dict[str, Any]


def look(
    spec: TrainSpec,
    config: OcrRecognitionConfig,
    rows: Prepared,
    plan: Any,
    learner: Learner,
    teller: Teller,
) -> Report:
    """`plan` is that of `finetune.engines.ocr_recognition`."""
    free = available_bytes()
    lines, texts = rows.train, rows.train.texts
    weights = sum(one.numel() for one in learner.parameters())
    measured: Report = {}
    if spec.measured_steps:
        teller.tell(Phase(name="measuring", message=f"{spec.measured_steps} steps"))
        measured = _measured(spec, config, rows, plan, learner)
    lengths = sorted(len(text) for text in texts)
    characters = sum(lengths)
    found: Report = {
        "examples": [_shown(rows, config, number) for number in range(min(SHOWN, len(lines)))],
        "rows": len(lines) + rows.left_out,
        "sampled": len(lines),
        "validation_rows": len(rows.validation) if rows.validation is not None else 0,
        "dropped": rows.left_out,
        "truncated": float((lines.widths == config.max_width).mean()),
        "lengths": _spread(lengths),
        "widths": _spread(sorted(lines.widths.tolist())),
        "characters": _characters(rows),
        "tokens": characters,
        "tokens_in_all": round(characters * plan.steps / plan.epoch_steps),
        "epoch_steps": plan.epoch_steps,
        "steps": plan.steps,
        "memory": _memory(learner, lines.widths, plan, weights, free, measured),
        "disk": _disk(spec, config, weights, lines.widths),
        "settings": {
            "batch_size": plan.batch,
            "gradient_accumulation": config.gradient_accumulation,
            "learning_rate": plan.rate,
            "dtype": plan.dtype,
            "device": torch.cuda.get_device_name() if plan.device == "cuda" else "cpu",
            "parameters": weights,
            "trainable_parameters": weights,
        },
    }
    found["time"] = _time(learner, lines.widths, plan, measured)
    found["warnings"] = _warnings(found, config)
    return found


def _shown(rows: Prepared, config: OcrRecognitionConfig, number: int) -> Report:
    """All of its text is learnt."""
    text, picture = rows.train.texts[number], rows.train.picture(number)
    png = cv2.imencode(".png", picture)[1].tobytes()
    return {
        "runs": [{"text": text, "loss": True}],
        "tokens": len(text),
        "learned": len(text),
        "cut_off": picture.shape[1] == config.max_width,
        "picture": f"data:image/png;base64,{base64.b64encode(png).decode()}",
        "width": picture.shape[1],
        "height": picture.shape[0],
    }


def _spread(sizes: Sequence[int]) -> dict[str, int]:
    shares = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("most", 1.0))
    return {name: int(sizes[min(len(sizes) - 1, int(of * len(sizes)))]) for name, of in shares}


def _characters(rows: Prepared) -> Report:
    kinds = Counter(letter for text in rows.train.texts for letter in set(text))
    tried = rows.validation.texts if rows.validation is not None else []
    return {
        "text": rows.alphabet.characters,
        "kinds": dict(kinds.most_common()),
        "only_in_validation": "".join(sorted(rows.alphabet.missing(tried))),
    }


def _measured(
    spec: TrainSpec, config: OcrRecognitionConfig, rows: Prepared, plan: Any, learner: Learner
) -> Report:
    """Real steps, of which nothing is kept."""
    lines = rows.train
    data = TrainLines(lines, seed=config.seed, vary=config.augment, most=config.max_width)
    order = list(WidthSampler(lines.widths, batch=plan.batch, seed=config.seed))
    collate = Collator(rows.alphabet)
    learner.to(plan.device).train()
    optimizer = torch.optim.AdamW(learner.parameters(), lr=plan.rate)
    seconds = []
    # One more: the first one makes ready what the others use.
    for number in range(spec.measured_steps + 1):
        began = time.monotonic()
        for _ in range(config.gradient_accumulation):
            start = number * plan.batch % max(1, len(order) - plan.batch + 1)
            batch = collate([data[key] for key in order[start : start + plan.batch]])
            given = {name: batch[name] for name in ("lines", "targets", "lengths")}
            found = learner(**{name: value.to(plan.device) for name, value in given.items()})
            found["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.monotonic() - began)
    if plan.device == "cuda":
        peak = torch.cuda.max_memory_reserved()
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    steady = seconds[1:]
    return {"seconds": sum(steady) / len(steady), "steps": len(steady), "peak": peak}


def _memory(
    learner: Learner, widths: np.ndarray, plan: Any, weights: int, free: int, measured: Report
) -> Report:
    gpu = plan.device == "cuda"
    values = _values_a_column(learner) * filled_width(int(widths.max())) * plan.batch
    found = Estimate(
        weights=weights * 4,
        gradients=weights * 4,
        # Adam's two moments.
        optimizer=weights * 8,
        activations=values * 4,
        process=CONTEXT_BYTES if gpu else PROCESS_BYTES,
    )
    return {
        "kind": "VRAM" if gpu else "RAM",
        "available": torch.cuda.get_device_properties(0).total_memory if gpu else free,
        **asdict(found),
        "total": found.total,
        "measured": measured.get("peak"),
    }


def _values_a_column(learner: Learner) -> int:
    """Numbers that are kept for the way back, a pixel of a line's width: each layer's output."""
    network, kept = learner.network, 0
    rows, columns = network.height / 2, 1 / 2
    for layer in [*network.begin, *network.see]:
        if isinstance(layer, torch.nn.MaxPool2d):
            down, along = _pair(layer.kernel_size)
            rows, columns = rows // down, columns / along
        channels = getattr(layer, "num_features", getattr(layer, "out_channels", 0))
        kept += 2 * channels * rows * columns
    # Of the recurrent layer both ways: gates, cells, outputs; then the scores.
    kept += columns * (2 * 6 * network.read.hidden_size + 3 * network.choose.out_features)
    return math.ceil(kept)


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)


def _time(learner: Learner, widths: np.ndarray, plan: Any, measured: Report) -> Report:
    if measured:
        each = measured["seconds"]
    else:
        speed = GPU_SPEED if plan.device == "cuda" else CORE_SPEED * (os.cpu_count() or 1)
        # Forward once, backward twice.
        each = 3 * _products_a_column(learner) * float(widths.mean()) * plan.batch / speed
    return {
        "seconds_a_step": each,
        "seconds": each * plan.steps,
        "measured_steps": measured.get("steps", 0),
    }


def _products_a_column(learner: Learner) -> float:
    """Multiplications a pixel of a line's width."""
    network, products = learner.network, 0.0
    rows, columns = network.height / 2, 1 / 2
    for layer in [*network.begin, *network.see]:
        if isinstance(layer, torch.nn.Conv2d):
            products += layer.weight.numel() * rows * columns
        elif isinstance(layer, torch.nn.MaxPool2d):
            down, along = _pair(layer.kernel_size)
            rows, columns = rows // down, columns / along
    last = sum(
        one.numel()
        for part in ("read", "choose", "glance")
        for one in getattr(network, part).parameters()
    )
    return products + last * columns


def _disk(
    spec: TrainSpec, config: OcrRecognitionConfig, weights: int, widths: np.ndarray
) -> Report:
    """A checkpoint has the weights and Adam's two moments of each."""
    checkpoint = weights * 12 + BESIDE_BYTES
    lines = int(widths.sum()) * config.height
    return {
        "folder": spec.folder,
        "free": shutil.disk_usage(spec.work).free,
        "checkpoint": checkpoint,
        "needed": checkpoint * (config.keep_checkpoints + 2) + weights * 8 + lines,
    }


def _warnings(found: Report, config: OcrRecognitionConfig) -> list[str]:
    memory, disk, characters = found["memory"], found["disk"], found["characters"]
    warnings = []
    rare = [letter for letter, lines in characters["kinds"].items() if lines < FEW_EXAMPLES]
    if rare:
        warnings.append(
            f"{len(rare)} characters are in fewer than {FEW_EXAMPLES} lines and will hardly be "
            f"learnt: {' '.join(rare[:30])}. Add lines with them."
        )
    if characters["only_in_validation"]:
        warnings.append(
            "Characters that only validation lines have can't be learnt: "
            f"{characters['only_in_validation']}. Each counts as an error."
        )
    if found["dropped"]:
        warnings.append(
            f"{found['dropped']} lines are left out: 'characters' lacks some of theirs, or they "
            "are too narrow for their text."
        )
    if max(memory["measured"] or 0, memory["total"]) > memory["available"]:
        warnings.append(
            f"About {in_words(memory['total'])} of {memory['kind']} are needed and "
            f"{in_words(memory['available'])} are there. Lower 'batch_size' or 'max_width'."
        )
    if disk["needed"] > disk["free"]:
        warnings.append(
            f"It will take {in_words(disk['needed'])}, and {disk['folder']} has "
            f"{in_words(disk['free'])} free. Lower 'keep_checkpoints', or free some."
        )
    if found["steps"] < FEW_STEPS:
        warnings.append(
            f"All is over after {found['steps']} steps; a network with new weights finds its first "
            "letters after about 100. Raise 'epochs', lower 'batch_size', or add lines."
        )
    if not found["validation_rows"]:
        warnings.append(
            "There are no validation rows: nothing will show when it learns the lines by heart, "
            "and the last weights are taken. Import the dataset with a share for validation."
        )
    return warnings
