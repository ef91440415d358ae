"""A recogniser of lines, from their pictures and texts to files that engines read with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from finetune.engines.base import (
    CHECKPOINTS,
    RESULT,
    Finished,
    Looked,
    Phase,
    Stopped,
    Teller,
    TrainingFailed,
    TrainSpec,
)
from finetune.engines.callback import State
from finetune.engines.checkpoints import COMPLETE
from finetune.engines.configs import AUTO, OcrRecognitionConfig
from finetune.engines.recogniser import export
from finetune.engines.recogniser.batches import Collator, EvalLines, TrainLines
from finetune.engines.recogniser.beginning import learner_make, sizes_of, weights_load
from finetune.engines.recogniser.languages import languages_of
from finetune.engines.recogniser.learner import CtcTrainer, Learner, LinesCallback
from finetune.engines.recogniser.network import Model
from finetune.engines.recogniser.rows import Prepared, rows_prepare
from ocr.engines.torch_library import import_torch

torch = import_torch()
import accelerate  # noqa: E402
import transformers  # noqa: E402

BATCH, RATE = 32, 4e-3
SAVES = 20
LIBRARIES = ("torch", "transformers", "accelerate", "onnx", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Plan:
    """What "auto" became. `device`: cpu or cuda."""

    device: str
    dtype: str
    batch: int
    rate: float
    epoch_steps: int
    steps: int


def train(spec: TrainSpec, teller: Teller) -> None:
    """Trains, or looks at everything. Raises TrainingFailed for what people can mend."""
    config = spec.config
    assert isinstance(config, OcrRecognitionConfig)
    languages = languages_of(config)
    teller.tell(Phase(name="preparing"))
    rows = rows_prepare(spec, config, teller)
    plan = plan_of(config, rows)
    teller.tell(Phase(name="loading"))
    learner = learner_make(spec, config, rows.alphabet, teller)
    if spec.mode == "dry":
        from finetune.engines.recogniser.dry_run import look

        teller.tell(Looked(report=look(spec, config, rows, plan, learner, teller)))
        return
    state = State.read(Path(spec.resume)) if spec.resume else None
    state = state or State(plan.batch, config.gradient_accumulation)
    trainer = trainer_make(spec, config, rows, plan, learner)
    callback = LinesCallback(
        teller,
        state,
        keep=config.keep_checkpoints,
        patience=config.early_stopping,
        settings=_settings(config, rows, plan, learner, trainer.args.world_size),
    )
    trainer.add_callback(callback)
    teller.tell(Phase(name="training"))
    trainer.train(resume_from_checkpoint=spec.resume or None)
    if callback.stopped:
        teller.tell(Stopped(step=trainer.state.global_step))
        return
    step = _best(spec, trainer, learner, state)
    if trainer.is_world_process_zero():
        teller.tell(Phase(name="saving"))
        metrics = callback.metrics | _tried(trainer, step)
        _finish(spec, config, teller, learner.network, rows, languages, step, metrics)


def plan_of(config: OcrRecognitionConfig, rows: Prepared) -> Plan:
    there = torch.cuda.is_available()
    if config.device.startswith("cuda") and not there:
        raise TrainingFailed(
            f"There is no GPU here for device '{config.device}'. Choose cpu, or start a worker "
            "where there is one.",
            code="no_device",
        )
    device = "cuda" if there and config.device != "cpu" else "cpu"
    dtype = config.dtype
    if dtype == AUTO:
        dtype = "bfloat16" if device == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    if dtype == "float16" and device == "cpu":
        raise TrainingFailed(
            "float16 is trained on a GPU only. Choose dtype bfloat16 or float32 on a CPU.",
            code="invalid_option",
        )
    batch = BATCH if config.batch_size == AUTO else int(config.batch_size)
    processes = accelerate.PartialState(cpu=device == "cpu").num_processes
    batches = math.ceil(len(rows.train) / (batch * processes))
    epoch_steps = max(1, math.ceil(batches / config.gradient_accumulation))
    return Plan(
        device=device,
        dtype=dtype,
        batch=batch,
        rate=RATE if config.learning_rate == AUTO else float(config.learning_rate),
        epoch_steps=epoch_steps,
        steps=config.max_steps or math.ceil(config.epochs * epoch_steps),
    )


def trainer_make(
    spec: TrainSpec, config: OcrRecognitionConfig, rows: Prepared, plan: Plan, learner: Learner
) -> CtcTrainer:
    tried = rows.validation is not None
    arguments = transformers.TrainingArguments(
        output_dir=str(spec.work / CHECKPOINTS),
        num_train_epochs=config.epochs or 1.0,
        max_steps=config.max_steps or -1,
        per_device_train_batch_size=plan.batch,
        per_device_eval_batch_size=plan.batch,
        gradient_accumulation_steps=config.gradient_accumulation,
        learning_rate=plan.rate,
        lr_scheduler_type=config.schedule,
        warmup_steps=math.ceil(plan.steps * config.warmup),
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        seed=config.seed,
        bf16=plan.dtype == "bfloat16",
        fp16=plan.dtype == "float16",
        use_cpu=plan.device == "cpu",
        logging_steps=config.log_steps,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if tried else "no",
        eval_steps=config.eval_steps or plan.epoch_steps,
        save_strategy="steps",
        save_steps=config.save_steps or math.ceil(plan.steps / SAVES),
        # Which are kept is the callback's to say.
        save_total_limit=None,
        remove_unused_columns=False,
        dataloader_pin_memory=plan.device == "cuda",
        report_to=[],
        disable_tqdm=True,
    )
    trainer = CtcTrainer(
        model=learner,
        args=arguments,
        alphabet=rows.alphabet,
        widths=rows.train.widths,
        train_dataset=TrainLines(
            rows.train, seed=config.seed, vary=config.augment, most=config.max_width
        ),
        eval_dataset=EvalLines(rows.validation) if tried else None,
        data_collator=Collator(rows.alphabet),
    )
    # All it prints is told already.
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def _settings(
    config: OcrRecognitionConfig, rows: Prepared, plan: Plan, learner: Learner, processes: int
) -> dict[str, Any]:
    weights = sum(one.numel() for one in learner.parameters())
    return {
        "batch_size": plan.batch,
        "gradient_accumulation": config.gradient_accumulation,
        "learning_rate": plan.rate,
        "dtype": plan.dtype,
        "device": torch.cuda.get_device_name() if plan.device == "cuda" else "cpu",
        "processes": processes,
        "parameters": weights,
        "trainable_parameters": weights,
        "train_rows": len(rows.train),
        "validation_rows": len(rows.validation) if rows.validation is not None else 0,
        "characters": rows.alphabet.characters,
    }


def _best(spec: TrainSpec, trainer: CtcTrainer, learner: Learner, state: State) -> int:
    """Puts the weights back that had the least CER; their step."""
    checkpoint = spec.work / CHECKPOINTS / f"checkpoint-{state.best_step}"
    whole = (checkpoint / COMPLETE).is_file()
    if state.best_step in (0, trainer.state.global_step) or not whole:
        return int(trainer.state.global_step)
    learner.load_state_dict(weights_load(checkpoint))
    return state.best_step


def _tried(trainer: CtcTrainer, step: int) -> dict[str, float]:
    """What the validation rows gave at that step."""
    found = [log for log in trainer.state.log_history if log["step"] == step and "eval_cer" in log]
    return {name: found[-1][name] for name in ("eval_loss", "eval_cer")} if found else {}


def _finish(
    spec: TrainSpec,
    config: OcrRecognitionConfig,
    teller: Teller,
    network: Model,
    rows: Prepared,
    languages: tuple[str, ...],
    step: int,
    metrics: dict[str, float],
) -> None:
    """The result's files, and whether they are what was trained."""
    folder, sizes = spec.work / RESULT, sizes_of(config)
    export.save(
        folder,
        network.cpu().eval(),
        alphabet=rows.alphabet,
        sizes=sizes,
        languages=languages,
        most_width=config.max_width,
        cer=metrics.get("eval_cer"),
    )
    teller.tell(Phase(name="checking"))
    lines = rows.validation if rows.validation is not None else rows.train
    found = export.compared(folder, network, lines, sizes)
    facts = {
        "kind": "recogniser",
        "metrics": metrics,
        "step": step,
        "parameters": sum(one.numel() for one in network.parameters()),
        "characters": rows.alphabet.characters,
        "languages": list(languages),
        "libraries": {name: version(name) for name in LIBRARIES},
    }
    teller.tell(Finished(step=step, trained_tokens=0, parity=found, facts=facts))
