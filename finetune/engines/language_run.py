"""The way of every training of a language model, from the base's files to what is served."""

from __future__ import annotations

import gc
import importlib
from pathlib import Path
from typing import Any

from finetune.engines import dry_run, language, parity, result
from finetune.engines.base import (
    CHECKPOINTS,
    RESULT,
    Finished,
    Notice,
    Phase,
    Stopped,
    Teller,
    TrainSpec,
)
from finetune.engines.callback import State, TellingCallback
from finetune.engines.checkpoints import COMPLETE
from finetune.engines.configs import LanguageConfig
from finetune.engines.fitting import batch_of
from finetune.engines.language import Base, config_of
from finetune.engines.prepared import TRAIN, Counts, Prepared, StopAsked, prepare
from finetune.engines.trainers import Batch, Method, build, settings
from ocr.engines.torch_library import import_torch

torch = import_torch()
transformers = importlib.import_module("transformers")


def run(spec: TrainSpec, teller: Teller, method: Method) -> None:
    """Trains, or looks at everything. Raises TrainingFailed for what people can mend."""
    if spec.mode == "dry":
        dry_run.look(spec, teller, method)
        return
    try:
        train(spec, teller, method)
    except StopAsked:
        teller.tell(Stopped(step=_step_of(spec)))


def train(spec: TrainSpec, teller: Teller, method: Method) -> None:
    config = config_of(spec)
    teller.tell(Phase(name="loading", message="tokenizer"))
    place = language.place_of(config)
    tokenizer = language.tokenizer_of(spec)
    config = language.within_context(spec, config)
    if message := language.not_served(spec, config):
        teller.tell(Notice(level="warn", message=message))
    teller.tell(Phase(name="preparing"))
    rows = prepare(spec, config, tokenizer, teller, method.form)
    _tell_of(rows.counts[TRAIN], config, teller)
    state = State.read(Path(spec.resume)) if spec.resume else None
    if state is None:
        batch = batch_of(spec, config, place, rows, method, teller)
        state = State(batch.size, batch.accumulation)
    teller.tell(Phase(name="loading", message="model"))
    base = language.load(spec, config, tokenizer)
    batch = Batch(state.batch_size, state.accumulation)
    trainer = build(spec, config, base, rows, batch, method)
    callback = TellingCallback(
        teller,
        state,
        keep=config.keep_checkpoints,
        patience=config.early_stopping,
        settings=settings(trainer, config, base, rows, batch, method),
    )
    trainer.add_callback(callback)
    # It prints what the callback tells.
    trainer.remove_callback(transformers.PrinterCallback)
    teller.tell(Phase(name="training"))
    trainer.train(resume_from_checkpoint=spec.resume or None)
    step = trainer.state.global_step
    if callback.stopped:
        teller.tell(Stopped(step=step))
        return
    if config.early_stopping and state.best_step not in (0, step):
        step = _best(spec, teller, trainer, state, step)
    _finish(spec, teller, trainer, base, rows, step, callback.metrics)


def _best(spec: TrainSpec, teller: Teller, trainer: Any, state: State, last: int) -> int:
    """Goes back to the weights of the best checkpoint; the step that they are of."""
    checkpoint = spec.work / CHECKPOINTS / f"checkpoint-{state.best_step}"
    if (checkpoint / COMPLETE).is_file():
        result.weights_restore(trainer, checkpoint)
        return state.best_step
    teller.tell(
        Notice(
            level="warn",
            message=f"The best checkpoint, of step {state.best_step}, was left on another machine; "
            f"the result is that of step {last}.",
        )
    )
    return last


def _finish(
    spec: TrainSpec,
    teller: Teller,
    trainer: Any,
    base: Base,
    rows: Prepared,
    step: int,
    metrics: dict[str, float],
) -> None:
    """The result's files, and whether they are what was trained."""
    if not trainer.is_world_process_zero():
        return
    teller.tell(Phase(name="saving"))
    model, tokens = result.bare(trainer), int(trainer.state.num_input_tokens_seen)
    folder = spec.work / RESULT
    facts = result.save(folder, model, base) | {"metrics": metrics, "step": step}
    teller.tell(Phase(name="checking"))
    prompts = parity.prompts_of(spec, rows.tokens)
    trained = parity.scores(model, prompts, base.tokenizer)
    del model
    _free(trainer, base)
    found = parity.check(spec, folder, base, prompts, trained)
    teller.tell(Finished(step=step, trained_tokens=tokens, parity=found, facts=facts))


def _free(trainer: Any, base: Base) -> None:
    """The weights are read again, twice, and there may be no room for all three."""
    trainer.accelerator.free_memory()
    for holder in (trainer, trainer.callback_handler):
        holder.model = holder.optimizer = holder.lr_scheduler = None
    trainer.model_wrapped = base.model = None
    gc.collect()
    torch.cuda.empty_cache()


def _tell_of(counts: Counts, config: LanguageConfig, teller: Teller) -> None:
    if counts.cut:
        teller.tell(
            Notice(
                level="warn",
                message=f"{counts.cut} of {counts.examples} examples are longer than what is "
                f"read of a row ({config.max_length} tokens) and were cut off.",
            )
        )
    if counts.dropped:
        teller.tell(
            Notice(
                level="warn",
                message=f"{counts.dropped} of {counts.rows} rows were left out: within "
                f"'max_length' ({config.max_length} tokens) nothing of their answers remains.",
            )
        )


def _step_of(spec: TrainSpec) -> int:
    return int(Path(spec.resume).name.rpartition("-")[2]) if spec.resume else 0
