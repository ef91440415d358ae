"""What is compared: names that people give, and what a process is told of each."""

from __future__ import annotations

import uuid
from typing import Any

from finetune.models import EvaluationSide, ModelVersion
from llm.models import LanguageModel, ModelAlias
from llm.sources import local_path
from mlops import engines
from mlops.exceptions import ApplicationError, JobFailed
from mlops.models import User

OCR = "ocr:"


def side_named(name: str, *, user: User | None, position: int) -> EvaluationSide:
    """The side that `name` means: `ocr:<engine>`, a language model's name, or a model version,
    as `<name>@<number>` or by its id. Raises ApplicationError.
    """
    name = str(name).strip()
    if name.startswith(OCR):
        alias = name.removeprefix(OCR)
        engines.spec("ocr", alias)
        return EvaluationSide(position=position, label=name, ocr_engine=alias)
    model = LanguageModel.objects.callable().filter(name=name).first() or _behind(name)
    version = _version(name, user) if model is None else None
    if model is None and version is None:
        raise ApplicationError(
            f"There is no model or version '{name}'. Give a language model's name, a version as "
            "name@number, or ocr:engine.",
            code="model_not_found",
            param="models",
        )
    if model is not None:
        version = ModelVersion.objects.filter(language_model=model).first()
        return EvaluationSide(position=position, label=model.name, model=model, version=version)
    label = f"{version.name}@{version.number}"
    return EvaluationSide(
        position=position, label=label, version=version, model=version.language_model
    )


def _behind(name: str) -> LanguageModel | None:
    """The model of an alias that has one alone: of several, which one answers is chance."""
    alias = ModelAlias.objects.filter(name=name).first()
    targets = [] if alias is None else list(alias.targets.select_related("model"))
    return targets[0].model if len(targets) == 1 else None


def _version(name: str, user: User | None) -> ModelVersion | None:
    seen = ModelVersion.objects.all() if user is None else ModelVersion.objects.visible_to(user)
    base, _at, number = name.rpartition("@")
    if base and number.isdecimal() and len(number) < 10:
        return seen.filter(name=base, number=int(number)).first()
    try:
        return seen.filter(pk=uuid.UUID(name)).first()
    except ValueError:
        return None


def reads_pictures(side: EvaluationSide) -> bool:
    """Whether it reads lines of OCR; else it is a language model."""
    if side.ocr_engine:
        return True
    return side.version is not None and side.version.form == ModelVersion.Form.RECOGNISER


def process_options(side: EvaluationSide) -> dict[str, Any]:
    """What `EvaluationSpec` takes of a language model. Raises JobFailed, EngineUnavailable."""
    version, model = side.version, side.model
    if model is not None:
        adapter = local_path(model.source) if model.base_id else ""
        return _of_model(model.root) | {"adapter": adapter}
    if version is None:
        raise JobFailed(
            f"'{side.label}' has been deleted since the evaluation was made. Start a new one.",
            code="model_deleted",
        )
    if version.form == ModelVersion.Form.MODEL:
        base = version.base
        template = base.chat_template if base else ""
        return {"base": local_path(version.source), "chat_template": template}
    if version.base is None:
        raise JobFailed(
            f"The base of {version} has been deleted, and an adapter can't run without it.",
            code="model_deleted",
        )
    return _of_model(version.base) | {"adapter": local_path(version.source)}


def _of_model(model: LanguageModel) -> dict[str, Any]:
    if model.engine != "transformers":
        raise JobFailed(
            f"'{model.name}' is run by the engine '{model.engine}': only models of the "
            "transformers engine can be evaluated, since their losses are needed.",
            code="engine_not_supported",
        )
    return {
        "base": local_path(model.source),
        "chat_template": model.chat_template,
        "dtype": model.dtype,
        "quantization": model.quantization,
        "context_length": model.context_length,
    }
