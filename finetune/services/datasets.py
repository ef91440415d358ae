"""Writes of datasets: an upload becomes a job, and what it leaves is a version."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import IO, Any

import structlog
from django.conf import settings
from django.core.files.base import File
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models.functions import Now

from finetune.formats import FORMATS
from finetune.models import Dataset, DatasetImport, DatasetVersion
from finetune.product_extractions import extractions_of
from finetune.product_rows import ACCEPTED, MAKERS, reviews_of
from finetune.reading import HubSource, is_hub_name
from finetune.report import trainable
from finetune.splits import Shares
from finetune.version_files import version_files_delete
from llm.files import clean_name
from llm.models import ExtractionJob, LanguageModel, StoredFile
from mlops.exceptions import ApplicationError, NotAllowed
from mlops.models import Job, User
from mlops.services import job_enqueue, job_retry, webhook_url_check
from ocr.job_rows import request_id, within
from ocr.models import PageReview

log = structlog.get_logger(__name__)

MOST_SEED = 2**53
MOST_REVIEWS = 100_000


def dataset_import(
    *,
    owner: User,
    name: str,
    file: IO[bytes] | None = None,
    filename: str = "",
    stored: StoredFile | None = None,
    hub: str = "",
    description: str = "",
    priority: int = 5,
    webhook_url: str = "",
    method: str = "",
    after: Job | None = None,
    **options: Any,
) -> DatasetImport:
    """A job that takes in an upload, a stored file or `hub:org/name` as the name's next version.

    The dataset of the owner with this name is made if there is none. With `method` the import
    fails unless that method of training can learn from what comes of it. Options as for
    `import_options`. Raises ApplicationError.
    """
    if [file is not None, stored is not None, bool(hub)].count(True) != 1:
        raise ApplicationError(
            "Give either 'file' (an upload), 'file_id' (of /v1/files) or 'hub' (hub:org/name).",
            code="file_or_hub",
            param="file",
        )
    if stored is not None:
        try:
            file, filename = stored.file.open("rb"), stored.filename
        except FileNotFoundError as error:
            raise ApplicationError(
                f"The file {stored.pk} is gone from the storage. Upload it again.",
                code="file_missing",
                param="file_id",
            ) from error
    if hub:
        hub = hub if is_hub_name(hub) else f"hub:{hub}"
        HubSource(hub)
    checked = import_options(**options)
    source = hub or clean_name(filename or str(getattr(file, "name", "") or ""))
    origin = DatasetImport.Origin.HUB if hub else DatasetImport.Origin.UPLOAD
    if method:
        checked["method"] = method
    job = _job(owner, name, origin, source, checked, priority, webhook_url)
    job.after, job.sent_at = after, None if after else Now()
    if file is not None:
        if not _size(file):
            raise ApplicationError("The file is empty.", code="empty_file", param="file")
        job.file.save(str(job.id), File(file, name=source), save=False)
    try:
        return _submitted(job, owner, name, description)
    except Exception:
        if job.file:
            default_storage.delete(job.file.name)
        raise


def dataset_from_reviews(
    *,
    owner: User,
    name: str,
    make: str,
    reviews: Sequence[int] | str = ACCEPTED,
    description: str = "",
    **options: Any,
) -> DatasetImport:
    """A job that makes a version out of accepted pages: `make` is "ocr" or "correction".

    `reviews`: ids, or "accepted" for all that the owner may see. Raises ApplicationError.
    """
    if make not in MAKERS:
        raise ApplicationError(
            f"make: one of {', '.join(MAKERS)}.", code="unknown_choice", param="make"
        )
    seen = PageReview.objects.visible_to(owner).accepted()
    if reviews != ACCEPTED:
        seen = seen.filter(pk__in=list(reviews))
    ids = reviews_of(list(seen.values_list("pk", flat=True)[: MOST_REVIEWS + 1]))
    if not ids:
        raise ApplicationError(
            "None of these pages is accepted: a dataset is made of pages that somebody has "
            "vouched for. Review and accept some first.",
            code="nothing_accepted",
            param="reviews",
        )
    if len(ids) > MOST_REVIEWS:
        raise ApplicationError(
            f"More than {MOST_REVIEWS:,} pages; choose fewer of them.",
            code="too_many",
            param="reviews",
        )
    checked = import_options(**options) | {"make": make, "reviews": ids}
    source = f"{len(ids):,} reviewed page{'' if len(ids) == 1 else 's'}"
    origin = DatasetImport.Origin.REVIEWS
    job = _job(owner, name, origin, source, checked, 5, "")
    return _submitted(job, owner, name, description)


def dataset_from_extractions(
    *,
    owner: User,
    name: str,
    extractions: Sequence[str] | str = ACCEPTED,
    description: str = "",
    **options: Any,
) -> DatasetImport:
    """A job that makes a version out of accepted extractions: the request to a model as the
    platform makes it, answered by the values that somebody has vouched for.

    `extractions`: ids, or "accepted" for all that the owner may see. Raises ApplicationError.
    """
    seen = ExtractionJob.objects.visible_to(owner)
    seen = seen.filter(accepted_at__isnull=False).order_by("created_at")
    if extractions != ACCEPTED:
        seen = seen.filter(pk__in=list(extractions))
    ids = extractions_of([str(pk) for pk in seen.values_list("pk", flat=True)[: MOST_REVIEWS + 1]])
    if not ids:
        raise ApplicationError(
            "None of these extractions is accepted: a dataset is made of values that somebody has "
            "vouched for. Review and accept some first.",
            code="nothing_accepted",
            param="extractions",
        )
    if len(ids) > MOST_REVIEWS:
        raise ApplicationError(
            f"More than {MOST_REVIEWS:,} extractions; choose fewer of them.",
            code="too_many",
            param="extractions",
        )
    checked = import_options(**options) | {"extractions": ids}
    source = f"{len(ids):,} accepted extraction{'' if len(ids) == 1 else 's'}"
    job = _job(owner, name, DatasetImport.Origin.EXTRACTIONS, source, checked, 5, "")
    return _submitted(job, owner, name, description)


def import_options(
    *,
    format: str = "",
    group_by: str = "",
    seed: int | None = None,
    validation: float = 0.05,
    test: float = 0.05,
    max_tokens: int = 0,
    tokenizer: str = "",
    licence: str = "",
    drop_bad_rows: bool = False,
) -> dict[str, Any]:
    """The options, checked, as the job keeps them. Raises ApplicationError.

    `tokenizer` is the name of a language model of the platform. `seed` None: that of the version
    before, so that the test split stays what it is.
    """
    if format and format not in FORMATS:
        raise ApplicationError(
            f"format: one of {', '.join(FORMATS)}.", code="unknown_format", param="format"
        )
    if not (math.isfinite(validation) and math.isfinite(test)):
        raise ApplicationError("validation, test: numbers from 0 to 1.", code="out_of_range")
    Shares(validation, test).checked()
    if seed is not None:
        within(seed, 0, MOST_SEED, "seed")
    within(max_tokens, 0, 10_000_000, "max_tokens")
    if tokenizer and not LanguageModel.objects.filter(name=tokenizer).exists():
        raise ApplicationError(
            f"There is no language model '{tokenizer}' whose tokenizer could count.",
            code="unknown_model",
            param="tokenizer",
        )
    return {
        "format": format,
        "group_by": group_by[:200],
        "seed": seed,
        "validation": validation,
        "test": test,
        "max_tokens": max_tokens,
        "tokenizer": tokenizer,
        "licence": licence[:200],
        "drop_bad_rows": drop_bad_rows,
    }


def bad_rows_drop(*, version: DatasetVersion, user: User | None) -> None:
    """Lets the version be trained on without its rows that have errors: somebody's choice."""
    if not trainable(version.report, drop_bad_rows=True):
        raise NotAllowed(
            "Without the rows that have errors there is nothing left to train on.",
            code="nothing_left",
        )
    changed = DatasetVersion.objects.filter(
        pk=version.pk, state=DatasetVersion.State.INVALID
    ).update(state=DatasetVersion.State.READY, bad_rows_dropped=True, dropped_by=user)
    if not changed:
        raise NotAllowed("The version has no errors, or its bad rows are left out already.")
    version.refresh_from_db()
    log.info("bad_rows_dropped", version=str(version.pk), rows=version.rows_bad)


def import_retry(*, job: Job) -> None:
    """Raises NotAllowed unless the job failed or was cancelled."""
    job_retry(job=job)


def version_delete(*, version: DatasetVersion) -> None:
    """Deletes the version; its rows too, unless another version holds the same."""
    with transaction.atomic():
        # Its children go on from there; what they keep to stands in their own files.
        pk = version.pk
        version.delete()
        version.pk = pk
        transaction.on_commit(lambda: version_files_delete(version))


def dataset_delete(*, dataset: Dataset) -> None:
    """Deletes the dataset with all versions. Raises NotAllowed while one is being imported."""
    if dataset.imports.filter(status__in=[Job.Status.QUEUED, Job.Status.RUNNING]).exists():
        raise NotAllowed("An import into it is under way. Cancel it, or wait for its end.")
    files = [job.file.name for job in dataset.imports.all() if job.file]
    with transaction.atomic():
        for version in dataset.versions.all():
            version_delete(version=version)
        dataset.delete()
        transaction.on_commit(lambda: [default_storage.delete(name) for name in files])


def _job(
    owner: User,
    name: str,
    origin: str,
    source: str,
    options: dict[str, Any],
    priority: int,
    webhook_url: str,
) -> DatasetImport:
    if not name.strip():
        raise ApplicationError("Give the dataset a name.", code="missing_parameter", param="name")
    within(priority, 0, 9, "priority")
    if webhook_url:
        webhook_url_check(url=webhook_url)
    return DatasetImport(
        kind=DatasetImport.KIND,
        queue=DatasetImport.QUEUE,
        max_attempts=settings.JOB_MAX_ATTEMPTS,
        priority=priority,
        owner=owner,
        origin=origin,
        source=source[:500],
        options=options,
        progress_total=100,
        webhook_url=webhook_url,
        sent_at=Now(),
        request_id=request_id(),
    )


def _submitted(job: DatasetImport, owner: User, name: str, description: str) -> DatasetImport:
    with transaction.atomic():
        job.dataset = dataset_named(owner=owner, name=name, description=description)
        last = job.dataset.versions.order_by("-number").first()
        if job.options["seed"] is None:
            job.options["seed"] = last.seed if last else 0
        job.save(force_insert=True)
        job_enqueue(job=job)
    return job


def dataset_named(*, owner: User | None, name: str, description: str = "") -> Dataset:
    """The owner's dataset of that name, made if there is none."""
    dataset, _made = Dataset.objects.get_or_create(
        owner=owner, name=name.strip()[:200], defaults={"description": description}
    )
    return dataset


def dataset_forget_empty(*, dataset: Dataset) -> None:
    """Deletes a dataset that nothing has come of."""
    Dataset.objects.filter(pk=dataset.pk, versions=None, imports=None).delete()


def _size(file: IO[bytes]) -> int:
    file.seek(0, os.SEEK_END)
    size = file.tell()
    file.seek(0)
    return size
