"""Writes of model versions: promoting one, deleting one."""

from __future__ import annotations

import structlog
from django.db import transaction

from finetune.models import ModelVersion
from finetune.training import registry
from llm.models import ModelAlias
from llm.services.models import alias_save, model_delete
from mlops import tracking
from mlops.exceptions import ApplicationError, NotAllowed
from mlops.stored_folders import folder_delete
from mlops.tracking import TrackingUnavailable
from ocr.models import TrainedEngine
from ocr.services import trained_engine_choose, trained_engine_delete

log = structlog.get_logger(__name__)


def version_promote(*, version: ModelVersion, weight: int = 100) -> ModelAlias | None:
    """Gives the version `weight` percent of the requests to its name; the rest stays as it is.

    At 100 it is the champion, below that the challenger, in MLflow too. A recogniser takes its
    name as a whole. Raises ApplicationError.
    """
    if not 1 <= weight <= 100:
        raise ApplicationError("weight: 1 to 100 percent.", code="out_of_range", param="weight")
    if version.form == ModelVersion.Form.RECOGNISER:
        _engine_promote(version, weight)
        return None
    model = version.language_model
    if model is None:
        raise NotAllowed(
            "The version isn't callable: it was found unfit, or trained without 'serve'.",
            code="not_callable",
        )
    alias = ModelAlias.objects.filter(name=version.name).first() or ModelAlias()
    others = [] if alias.pk is None else list(alias.targets.exclude(model=model))
    rest = sum(target.weight for target in others)
    targets = [(model, weight)]
    if weight < 100 and rest:
        targets = [(model, weight * rest)]
        targets += [(target.model, target.weight * (100 - weight)) for target in others]
    alias_save(alias=alias, name=version.name, targets=targets)
    _tell_mlflow(version, champion=len(targets) == 1)
    log.info("version_promoted", version=str(version), weight=weight)
    return alias


def _engine_promote(version: ModelVersion, weight: int) -> None:
    if weight != 100:
        raise ApplicationError(
            "A recogniser takes its name as a whole: weight 100.",
            code="out_of_range",
            param="weight",
        )
    engine = _engine_of(version)
    if engine is None:
        raise NotAllowed(
            "The version isn't callable: it was found unfit, or trained without 'serve'.",
            code="not_callable",
        )
    trained_engine_choose(engine=engine)
    _tell_mlflow(version, champion=True)
    log.info("version_promoted", version=str(version), weight=weight)


def _engine_of(version: ModelVersion) -> TrainedEngine | None:
    return TrainedEngine.objects.filter(name=version.name, number=version.number).first()


def _tell_mlflow(version: ModelVersion, *, champion: bool) -> None:
    """Traffic goes by the platform's own alias; MLflow's is a note for others."""
    if not version.registered_number:
        return
    name = registry.registered_name(version)
    alias = registry.CHAMPION if champion else registry.CHALLENGER
    try:
        tracking.alias(name, alias, version.registered_number)
    except TrackingUnavailable as error:
        log.warning("alias_not_registered", version=str(version), error=str(error))


def version_delete(*, version: ModelVersion) -> None:
    """Deletes the version, its files, and the model that requests call. Raises NotAllowed."""
    model = version.language_model
    engine = _engine_of(version) if version.form == ModelVersion.Form.RECOGNISER else None
    with transaction.atomic():
        if engine is not None:
            trained_engine_delete(engine=engine)
        folder = version.folder
        version.delete()
        if model is not None:
            model_delete(model=model)
        transaction.on_commit(lambda: folder_delete(folder))
