"""How many rows fit into memory at once, where nobody says it."""

from __future__ import annotations

import gc
import importlib
from typing import Any

from finetune.engines import language
from finetune.engines.base import Phase, Teller, TrainSpec
from finetune.engines.configs import AUTO, LanguageConfig
from finetune.engines.language import Place
from finetune.engines.memory import Shape, available_bytes, estimate
from finetune.engines.prepared import Prepared
from finetune.engines.trainers import Batch, Method, build
from ocr.engines.torch_library import import_torch

torch = import_torch()

# Rows a step over all devices, before accumulation: what fits decides how they are shared out, not
# how many there are, so that the same job learns the same on any machine.
ROWS_A_STEP = 16
# Of what is free: the rest is for what the formula leaves out.
SHARE = 0.7


def batch_of(
    spec: TrainSpec,
    config: LanguageConfig,
    place: Place,
    rows: Prepared,
    method: Method,
    teller: Teller,
) -> Batch:
    """As the options say; "auto" is measured on a GPU and reckoned on a CPU, which can't try."""
    if config.batch_size != AUTO:
        return Batch(int(config.batch_size), config.gradient_accumulation)
    processes = importlib.import_module("accelerate").PartialState().num_processes
    most = max(1, ROWS_A_STEP // processes)
    if place.device == "cpu":
        found = fitting(shape_of(spec, config), config, rows, most, pairs=method.pairs)
        # Machines may have more or less memory, and all must take as many steps.
        size = min(importlib.import_module("accelerate.utils").gather_object([found]))
    else:
        teller.tell(Phase(name="measuring", message="how many rows fit into memory"))
        size = _tried(spec, config, rows, method, most)
    return Batch(size, config.gradient_accumulation * max(1, most // size))


def fitting(shape: Shape, config: LanguageConfig, rows: Prepared, most: int, *, pairs: bool) -> int:
    """The most rows, halving from `most`, that the formula says fit into the free RAM."""
    length = max(1, rows.longest)
    while most > 1:
        found = estimate(
            shape,
            dtype="float32" if config.dtype == AUTO else config.dtype,
            adapter=config.adapter,
            batch=most,
            length=length,
            checkpointing=config.gradient_checkpointing,
            pairs=pairs,
        )
        if found.total <= SHARE * available_bytes():
            break
        most //= 2
    return most


def shape_of(spec: TrainSpec, config: LanguageConfig) -> Shape:
    """From the base's config.json, before its weights are loaded."""
    transformers = importlib.import_module("transformers")
    root = language.root_of(spec)
    sizes = transformers.AutoConfig.from_pretrained(
        root, trust_remote_code=spec.trust_remote_code
    ).to_dict()
    whole = Shape.of(sizes)
    if config.adapter == "full":
        return whole
    # A rank of weights in and one out, for about seven products a layer.
    outs = 4 * 2 * whole.hidden + 3 * (whole.hidden + whole.intermediate)
    return Shape.of(sizes, trainable=config.lora_r * outs * whole.layers)


def _tried(
    spec: TrainSpec, config: LanguageConfig, rows: Prepared, method: Method, most: int
) -> int:
    """As `_survived`, of all processes; what was loaded for it is gone afterwards."""
    base = language.load(spec, config, rows.tokenizer)
    trainer = build(spec, config, base, rows, Batch(1, 1), method)
    found = importlib.import_module("accelerate.utils").gather_object(
        [_survived(trainer, rows, method, most)]
    )
    del trainer, base
    gc.collect()
    torch.cuda.empty_cache()
    return min(found)


def _survived(trainer: Any, rows: Prepared, method: Method, most: int) -> int:
    """The most rows, halving from `most`, with which a step of the longest ones is survived."""
    memory = importlib.import_module("accelerate.utils.memory")
    trained = sum(one.numel() for one in trainer.model.parameters() if one.requires_grad)
    # Stands for the optimizer's two moments, which are made with the first step.
    moments = torch.empty(2 * trained, dtype=torch.float32, device=trainer.args.device)
    size = most

    def halved() -> int:
        nonlocal size
        size //= 2
        return size

    def step(batch_size: int) -> int:
        trainer.model.train()
        inputs = trainer._prepare_inputs(longest(trainer, rows, method, batch_size))
        with trainer.compute_loss_context_manager():
            loss = trainer.compute_loss(trainer.model, inputs)
        loss.backward()
        return batch_size

    try:
        return memory.find_executable_batch_size(
            step, starting_batch_size=most, reduce_batch_size_fn=halved
        )()
    except RuntimeError as error:
        if "No executable batch size" not in str(error):
            raise
        raise torch.OutOfMemoryError("Not even one row fits.") from error
    finally:
        del moments


def longest(trainer: Any, rows: Prepared, method: Method, count: int) -> Any:
    """A batch of `count` rows as long as the longest one, as the trainer's collator makes it."""
    length = max(2, rows.longest)
    row: dict[str, Any] = {name: [1] * length for name in method.form.columns}
    if method.pairs:
        row["prompt_ids"] = [1]
    return trainer.data_collator([row] * count)
