"""What a training will take, and what may go wrong with it: the reckoning part of a dry run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from finetune.engines.configs import LanguageConfig
from finetune.engines.language import Place
from finetune.engines.memory import Shape, estimate, in_words

# Multiplications a second that trainings reach, roughly: a core's in float32, a GPU's in bfloat16.
CORE_SPEED, GPU_SPEED = 1.5e10, 1.5e14
# A tokenizer with what else lies in a checkpoint.
BESIDE_BYTES = 20 * 1024**2
FEW_STEPS, MANY_CUT = 20, 0.05

Report = dict[str, Any]


def memory(
    config: LanguageConfig, place: Place, shape: Shape, batch: int, length: int, *, pairs: bool
) -> Report:
    gpu = place.device == "cuda"
    found = estimate(
        shape,
        dtype=place.dtype,
        adapter=config.adapter,
        batch=batch,
        length=length,
        checkpointing=config.gradient_checkpointing,
        pairs=pairs,
        gpu=gpu,
    )
    return {"kind": "VRAM" if gpu else "RAM", **found.as_dict()}


def duration(
    config: LanguageConfig, place: Place, shape: Shape, found: Report, measured: Report
) -> Report:
    if measured:
        each = measured["seconds"]
    else:
        # Forward twice, backward twice for inputs and, where they are trained, twice for weights.
        work = 4 * shape.parameters + 2 * shape.trainable
        speed = GPU_SPEED if place.device == "cuda" else CORE_SPEED * (os.cpu_count() or 1)
        each = work * found["tokens"] / found["epoch_steps"] / speed / config.processes
    return {
        "seconds_a_step": each,
        "seconds": each * found["steps"],
        "measured_steps": measured.get("steps", 0),
    }


def disk(work: Path, config: LanguageConfig, shape: Shape) -> Report:
    """A checkpoint has the trained weights and Adam's two moments of each."""
    checkpoint = shape.trainable * 12 + BESIDE_BYTES
    # Those that are kept, the best, the one being written, and the result.
    needed = checkpoint * (config.keep_checkpoints + 2) + shape.trainable * 4 + BESIDE_BYTES
    return {
        "folder": str(work),
        "free": shutil.disk_usage(work).free,
        "checkpoint": checkpoint,
        "needed": needed,
    }


def warnings(found: Report, config: LanguageConfig, eos: str) -> list[str]:
    memory, disk = found["memory"], found["disk"]
    said = []
    if found["truncated"] > MANY_CUT:
        said.append(
            f"{found['truncated']:.0%} of the rows are longer than 'max_length' "
            f"({config.max_length} tokens) and lose their ends. Raise it, or shorten the rows."
        )
    if found["dropped"]:
        said.append(
            f"{found['dropped']} rows are left out: nothing of their answers remains within "
            f"'max_length' ({config.max_length} tokens). Raise it."
        )
    if max(memory["measured"] or 0, memory["total"]) > memory["available"]:
        said.append(
            f"About {in_words(memory['total'])} of {memory['kind']} are needed and "
            f"{in_words(memory['available'])} are there. Lower 'batch_size' or 'max_length', turn "
            "'gradient_checkpointing' on, or train an adapter."
        )
    if disk["needed"] > disk["free"]:
        said.append(
            f"Checkpoints will take {in_words(disk['needed'])}, and {disk['folder']} has "
            f"{in_words(disk['free'])} free. Lower 'keep_checkpoints', or free some."
        )
    if found["steps"] < FEW_STEPS:
        said.append(
            f"All is over after {found['steps']} steps, which teaches little. Lower 'batch_size' "
            "or 'gradient_accumulation', raise 'epochs', or add rows."
        )
    if not found["validation_rows"]:
        said.append(
            "There are no validation rows: nothing will show when it learns the rows by heart. "
            "Import the dataset with a share for validation."
        )
    whole = [one for one in found["examples"] if not one["cut_off"]]
    if whole and not any(_ends(one, eos) for one in whole):
        said.append(
            f"No answer ends with a token that ends text ({eos}): the model won't "
            "learn to stop. Look at the examples, and at the chat template."
        )
    return said


def _ends(shown: Report, eos: str) -> bool:
    return any(run["loss"] and eos in run["text"] for run in shown["runs"])
