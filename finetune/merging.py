"""The job that merges an adapter into its base: a version of its own, whole, to be trained on."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Max

from finetune.engines.base import RESULT, Failed, Finished, Phase, TrainSpec
from finetune.models import ModelVersion, VersionMerge
from finetune.training import devices, registry
from finetune.training.cards import model_card
from finetune.training.child import Child
from finetune.training.run import Look
from llm.models import LanguageModel
from llm.services.models import model_save
from llm.sources import local_path
from mlops.exceptions import ApplicationError, JobFailed
from mlops.jobs import JobContext
from mlops.stored_folders import folder_files, folder_put
from mlops.tracking import TrackingUnavailable

MODULE = "finetune.engines.merge"
# In their order: progress is how many are behind.
PHASES = VersionMerge.Phase.values[1:]


def adapter_check(version: ModelVersion) -> None:
    """Raises ApplicationError for what can't be merged."""
    if version.form == ModelVersion.Form.ADAPTER and version.base is not None:
        return
    why = f"it is a {version.get_form_display()}"
    if version.form == ModelVersion.Form.ADAPTER:
        why = "its base has been deleted"
    raise ApplicationError(
        f"Only an adapter can be merged into its base; of {version} {why}.", code="not_an_adapter"
    )


def run(job: VersionMerge, context: JobContext) -> None:
    """A cancel or a worker that stops ends the process at once: nothing of it would be kept."""
    version = job.version
    if version is None:
        raise JobFailed(
            f"{job.version_label} has been deleted since the job was made.", code="version_deleted"
        )
    adapter_check(version)
    folder = settings.TRAINING_FOLDER / "merges" / str(job.pk)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        finished = _merged(job, version, folder, context)
        context.check()
        _phase(job, context, VersionMerge.Phase.STORING)
        _keep(job, version, folder / RESULT, finished)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    context.progress(len(PHASES), len(PHASES))


def _phase(job: VersionMerge, context: JobContext, name: str) -> None:
    VersionMerge.objects.filter(pk=job.pk, attempts=job.attempts).update(phase=name)
    context.progress(PHASES.index(name), len(PHASES))


def _merged(
    job: VersionMerge, version: ModelVersion, folder: Path, context: JobContext
) -> Finished:
    base = version.base
    assert base is not None
    look, last = Look(context), None
    _phase(job, context, VersionMerge.Phase.DEVICE)
    with devices.held(job.device, 1, look) as held:
        spec = TrainSpec(
            method="sft",
            options={"adapter": "full", "device": held.named},
            folder=str(folder),
            base=local_path(base.source),
            begin_with=local_path(version.source),
            chat_template=base.chat_template,
        )
        with Child(
            folder,
            arguments=[str(spec.write())],
            locks=held.locks,
            processes=0,
            module=MODULE,
        ) as child:
            for event in child.events():
                if isinstance(event, Phase):
                    _phase(job, context, event.name)
                elif isinstance(event, Finished | Failed):
                    last = event
                look()
    if isinstance(last, Finished):
        return last
    if isinstance(last, Failed):
        raise JobFailed(last.message, code=last.code)
    raise _gone(child)


def _gone(child: Child) -> JobFailed:
    """It has ended without a word."""
    status = child.exit_status
    if status is not None and status < 0:
        return JobFailed(
            f"The process that merges was killed ({signal.Signals(-status).name}). If memory ran "
            "out: a merge holds the whole model in float32. Merge where more is free.",
            code="merge_killed",
        )
    return JobFailed(
        f"The process that merges ended with status {status}. What it said last:\n"
        f"{child.last_words()}",
        code="merge_broken",
    )


def _keep(job: VersionMerge, version: ModelVersion, folder: Path, finished: Finished) -> None:
    """Doing it again after an attempt that was cut off goes on with the same version."""
    made = job.result or _numbered(job, version)
    made.files = folder_put(folder, made.folder, folder_files(folder))
    made.bytes = sum(size for size, _digest in made.files.values())
    made.parity = finished.parity
    fit = finished.parity["fit"]
    made.fitness = ModelVersion.Fitness.FIT if fit else ModelVersion.Fitness.UNFIT
    made.facts = version.facts | finished.facts | {"merged_from": str(version)}
    if version.job is not None:
        made.card = model_card(made, version.job)
    made.mlflow_run_id = version.mlflow_run_id
    made.save()
    if fit and made.language_model is None:
        made.language_model = _callable(made)
        ModelVersion.objects.filter(pk=made.pk).update(language_model=made.language_model)
    try:
        registry.register(made)
    except TrackingUnavailable as error:
        # Maintenance makes up for it.
        ModelVersion.objects.filter(pk=made.pk).update(register_note=str(error)[:2000])


def _numbered(job: VersionMerge, version: ModelVersion) -> ModelVersion:
    while True:
        last = ModelVersion.objects.filter(name=job.name).aggregate(last=Max("number"))["last"]
        try:
            with transaction.atomic():
                made = ModelVersion.objects.create(
                    owner=version.owner,
                    name=job.name,
                    number=(last or 0) + 1,
                    form=ModelVersion.Form.MODEL,
                    job=version.job,
                    step=version.step,
                    dataset_version=version.dataset_version,
                    base=version.base,
                    merged_from=version,
                )
                VersionMerge.objects.filter(pk=job.pk).update(result=made)
        except IntegrityError:
            # Somebody else has made one of this name in the meantime.
            continue
        return made


def _callable(made: ModelVersion) -> LanguageModel:
    base, name = made.base, f"{made.name}@{made.number}"
    found = LanguageModel.objects.filter(name=name, source=made.source).first()
    if found is not None:
        return found
    try:
        return model_save(
            model=LanguageModel(),
            name=name,
            source=made.source,
            dtype=base.dtype if base else LanguageModel.Dtype.AUTO,
            chat_template=base.chat_template if base else "",
            store_texts=base.store_texts if base else False,
            notes=f"{made.merged_from} merged into {base}",
        )
    except ApplicationError as error:
        raise JobFailed(
            f"The result is kept as {made}, but can't be called '{name}': {error.message}",
            code=error.code,
        ) from error
