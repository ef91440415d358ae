"""An adapter merged into its base: a version of its own, whole, that others can be trained on."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from django.db import IntegrityError, transaction
from django.db.models import Max

from finetune.engines.base import RESULT, Failed, Finished, Phase, TrainSpec
from finetune.models import ModelVersion
from finetune.training import devices, registry
from finetune.training.cards import model_card
from finetune.training.child import Child
from llm.models import LanguageModel
from llm.services.models import model_save
from llm.sources import local_path
from mlops.exceptions import ApplicationError, JobFailed
from mlops.stored_folders import folder_files, folder_put
from mlops.tracking import TrackingUnavailable

MODULE = "finetune.engines.merge"


def version_merge(
    version: ModelVersion,
    *,
    name: str = "",
    device: str = "auto",
    tell: Callable[[str], None] = lambda message: None,
) -> ModelVersion:
    """Merges the adapter and makes what comes of it callable if it is fit.

    `name`: of the new version; default: the next number of the same. Raises ApplicationError,
    JobFailed.
    """
    base = version.base
    if version.form != ModelVersion.Form.ADAPTER or base is None:
        why = (
            "its base has been deleted" if base is None else f"it is a {version.get_form_display()}"
        )
        raise ApplicationError(
            f"Only an adapter can be merged into its base; of {version} {why}.",
            code="not_an_adapter",
        )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with devices.held(device, 1, lambda: None) as held:
            spec = TrainSpec(
                method="sft",
                options={"adapter": "full", "device": held.devices[0]},
                folder=temporary,
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
                finished = _followed(child, tell)
        return _kept(version, name or version.name, folder / RESULT, finished)


def _followed(child: Child, tell: Callable[[str], None]) -> Finished:
    last = None
    for event in child.events():
        if isinstance(event, Phase):
            tell(event.name)
        elif isinstance(event, Finished | Failed):
            last = event
    if isinstance(last, Finished):
        return last
    if isinstance(last, Failed):
        raise JobFailed(last.message, code=last.code)
    raise JobFailed(
        f"The process that merges ended with status {child.exit_status}. What it said last:\n"
        f"{child.last_words()}",
        code="merge_broken",
    )


def _kept(version: ModelVersion, name: str, folder: Path, finished: Finished) -> ModelVersion:
    made = _numbered(version, name)
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
    if fit:
        made.language_model = _callable(made)
        ModelVersion.objects.filter(pk=made.pk).update(language_model=made.language_model)
    try:
        registry.register(made)
    except TrackingUnavailable as error:
        # Maintenance makes up for it.
        ModelVersion.objects.filter(pk=made.pk).update(register_note=str(error)[:2000])
    return made


def _numbered(version: ModelVersion, name: str) -> ModelVersion:
    while True:
        last = ModelVersion.objects.filter(name=name).aggregate(last=Max("number"))["last"]
        try:
            with transaction.atomic():
                return ModelVersion.objects.create(
                    owner=version.owner,
                    name=name,
                    number=(last or 0) + 1,
                    form=ModelVersion.Form.MODEL,
                    job=version.job,
                    step=version.step,
                    dataset_version=version.dataset_version,
                    base=version.base,
                    merged_from=version,
                )
        except IntegrityError:
            # Somebody else has made one of this name in the meantime.
            continue


def _callable(made: ModelVersion) -> LanguageModel:
    base = made.base
    assert base is not None
    return model_save(
        model=LanguageModel(),
        name=f"{made.name}@{made.number}",
        source=made.source,
        dtype=base.dtype,
        chat_template=base.chat_template,
        store_texts=base.store_texts,
        notes=f"{made.merged_from} merged into {base}",
    )
