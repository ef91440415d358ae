"""What a training leaves: a version in the storage and in MLflow's registry, callable by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import structlog
from django.db import IntegrityError, transaction
from django.db.models import Max

from finetune.engines.base import Finished
from finetune.models import ModelVersion, TrainingJob
from finetune.training import registry
from finetune.training.cards import model_card
from finetune.training.curves import curves_file
from finetune.training.progress import INFO, WARN, Recorder
from llm.models import LanguageModel, ModelAlias
from llm.services.models import alias_save, model_save
from mlops.exceptions import ApplicationError, JobFailed
from mlops.stored_folders import Files, folder_files, folder_put
from mlops.tracking import TrackingUnavailable
from ocr.services import trained_engine_save

log = structlog.get_logger(__name__)

FORMS = {"full": ModelVersion.Form.MODEL}


def keep(job: TrainingJob, folder: Path, finished: Finished, recorder: Recorder) -> ModelVersion:
    """Stores the result as a version, makes it callable if it is fit, and registers it.

    Doing it again after an attempt that was cut off goes on with the same version.
    """
    version = job.versions.filter(step=finished.step).first() or _version(job, finished)
    files = folder_put(folder, version.folder, folder_files(folder))
    _describe(version, job, finished, files)
    TrainingJob.objects.filter(pk=job.pk).update(trained_tokens=finished.trained_tokens)
    recorder.tell(INFO, f"The result is stored as {version}.", version=str(version.pk))
    if version.fitness == ModelVersion.Fitness.UNFIT:
        recorder.tell(
            WARN,
            "The version is unfit: what would be served answers otherwise than what was trained. "
            "It is kept, and not made callable. See its parity check.",
        )
    elif job.serve:
        make_callable(version, job)
        recorder.tell(INFO, f"It can be called as {' or '.join(version.called_by)}.")
        if job.training_file:
            _checkpoints_callable(job, version)
    curves_file(job)
    try:
        registry.register(version)
    except TrackingUnavailable as error:
        recorder.tell(WARN, f"MLflow can't be reached; it is registered later ({error}).")
    return version


def _version(job: TrainingJob, finished: Finished) -> ModelVersion:
    form = FORMS.get(str(job.options.get("adapter", "")), ModelVersion.Form.ADAPTER)
    if job.method == job.Method.OCR:
        form = ModelVersion.Form.RECOGNISER
    while True:
        last = ModelVersion.objects.filter(name=job.name).aggregate(last=Max("number"))["last"]
        try:
            with transaction.atomic():
                return ModelVersion.objects.create(
                    owner=job.owner,
                    name=job.name,
                    number=(last or 0) + 1,
                    form=form,
                    job=job,
                    step=finished.step,
                    dataset_version=job.dataset_version,
                    base=job.base,
                )
        except IntegrityError:
            # Another job has made one of this name in the meantime.
            continue


def _describe(version: ModelVersion, job: TrainingJob, finished: Finished, files: Files) -> None:
    version.files = files
    version.bytes = sum(size for size, _digest in files.values())
    version.parity = finished.parity
    if finished.parity:
        fit = finished.parity.get("fit", False)
        version.fitness = ModelVersion.Fitness.FIT if fit else ModelVersion.Fitness.UNFIT
    version.facts = _facts(job, finished)
    version.card = model_card(version, job)
    version.mlflow_run_id = job.mlflow_run_id
    version.save()


def _facts(job: TrainingJob, finished: Finished) -> dict[str, Any]:
    return {
        "method": job.method,
        "base": job.base_name,
        "dataset": job.dataset_label,
        "dataset_sha256": job.dataset_version.sha256 if job.dataset_version else "",
        "options": job.options,
        "found": job.settings_found,
        "steps": finished.step,
        "trained_tokens": finished.trained_tokens,
    } | finished.facts


def make_callable(version: ModelVersion, job: TrainingJob) -> None:
    """Gives requests a name for the version: `name@number`, and `name` if it is the first.

    Raises JobFailed where the name is taken by something else.
    """
    if version.language_model_id is not None:
        return
    if version.form == ModelVersion.Form.RECOGNISER:
        _engine_save(version)
        return
    # Clients of OpenAI's API are told one name, which stands for this one version.
    name = version.name if job.training_file else str(version).replace(" v", "@")
    model = LanguageModel.objects.filter(name=name, source=version.source).first()
    try:
        if model is None:
            model = _model_save(
                job,
                name,
                source=version.source,
                form=version.form,
                notes=f"{job.get_method_display()} on {job.dataset_label}",
            )
        ModelVersion.objects.filter(pk=version.pk).update(language_model=model)
        version.language_model = model
        taken = LanguageModel.objects.filter(name=version.name).exists()
        if not taken and not ModelAlias.objects.filter(name=version.name).exists():
            alias_save(alias=ModelAlias(), name=version.name, targets=[(model, 100)])
    except ApplicationError as error:
        raise JobFailed(
            f"The result is kept as {version}, but can't be called '{name}': {error.message}",
            code=error.code,
        ) from error


def _checkpoints_callable(job: TrainingJob, version: ModelVersion) -> None:
    """Clients of OpenAI's API are told of a name for each checkpoint, too."""
    held = job.checkpoints.filter(removed=False).exclude(step=version.step)
    for checkpoint in held.select_related("job"):
        if not LanguageModel.objects.filter(name=checkpoint.model_name).exists():
            _model_save(
                job,
                checkpoint.model_name,
                source=checkpoint.source,
                form=version.form,
                notes=f"Step {checkpoint.step} of {version}",
            )


def _model_save(
    job: TrainingJob, name: str, *, source: str, form: str, notes: str
) -> LanguageModel:
    """Raises ApplicationError."""
    return model_save(
        model=LanguageModel(),
        name=name,
        base=job.base if form == ModelVersion.Form.ADAPTER else None,
        source=source,
        chat_template=job.base.chat_template if job.base else "",
        store_texts=job.base.store_texts if job.base else False,
        mlflow_run_id=job.mlflow_run_id,
        notes=notes,
    )


def _engine_save(version: ModelVersion) -> None:
    try:
        trained_engine_save(
            name=version.name,
            number=version.number,
            source=version.source,
            languages=version.facts["languages"],
            characters=version.facts["characters"],
            cer=version.facts["metrics"].get("eval_cer"),
        )
    except ApplicationError as error:
        raise JobFailed(
            f"The result is kept as {version}, but no engine can be made of it: {error.message}",
            code=error.code,
        ) from error
