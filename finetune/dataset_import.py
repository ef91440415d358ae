"""The job that takes a dataset in: its source opened, read, checked, stored as a version."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import Max

from finetune.checks.whole import Earlier
from finetune.intake import Intake, IntakeOptions, take_in
from finetune.models import Dataset, DatasetImport, DatasetVersion
from finetune.product_extractions import ExtractionSource
from finetune.product_rows import ReviewSource
from finetune.reading import HubSource, Source, open_source
from finetune.report import trainable
from finetune.splits import Shares
from finetune.training_files import version_check, waiters_told
from finetune.version_files import content_put, facts_put, test_prompts
from llm.models import LanguageModel
from llm.sources import local_path
from mlops.exceptions import ApplicationError, JobFailed
from mlops.jobs import JobContext
from mlops.models import User

log = structlog.get_logger(__name__)

# How often the job's row is looked at while rows are read.
LOOK_SECONDS = 1.0


def run(job: DatasetImport, context: JobContext) -> None:
    """Idempotent: a job that has made its version, and was cut off then, makes no other."""
    with waiters_told(job):
        if job.version_id is None:
            _take_in(job, context)
        if method := job.options.get("method"):
            # Anew: its dataset's kind has only now become known.
            version = DatasetVersion.objects.select_related("dataset").get(pk=job.version_id)
            version_check(version, method)
    if job.file:
        job.file.storage.delete(job.file.name)
    context.progress(100, 100)


def _take_in(job: DatasetImport, context: JobContext) -> None:
    with _source(job) as source, tempfile.TemporaryDirectory() as folder:
        version = version_make(
            dataset=job.dataset,
            source=source,
            source_name=job.source,
            options=job_options(job),
            folder=Path(folder),
            drop_bad_rows=job.options.get("drop_bad_rows", False),
            dropped_by=job.owner,
            licence=job.options.get("licence", ""),
            tick=_Ticker(context),
            job=job,
        )
    log.info("dataset_imported", dataset=str(job.dataset_id), rows=version.rows)


class _Ticker:
    """Tells the job of its progress, and stops it where that is asked for."""

    def __init__(self, context: JobContext) -> None:
        self._context, self._looked = context, 0.0

    def __call__(self, done: int, total: int, rows: int) -> None:
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._context.check()
            # The last percent is what is done over the whole.
            share = min(99, done * 99 // total) if total else 0
            self._context.progress(share, 100)


def job_options(job: DatasetImport) -> IntakeOptions:
    """Raises JobFailed for a tokenizer that is gone."""
    given: dict[str, Any] = job.options
    tokenizer = ""
    if name := given.get("tokenizer"):
        model = LanguageModel.objects.filter(name=name).first()
        if model is None:
            raise JobFailed(f"There is no language model '{name}' any more.", code="unknown_model")
        tokenizer = local_path(model.root.source)
    return IntakeOptions(
        format=given.get("format", ""),
        group_by=given.get("group_by", ""),
        seed=given.get("seed", 0),
        shares=Shares(given.get("validation", 0.05), given.get("test", 0.05)),
        max_tokens=given.get("max_tokens", 0),
        tokenizer=tokenizer,
    )


@contextmanager
def _source(job: DatasetImport) -> Iterator[Source]:
    if job.origin == DatasetImport.Origin.HUB:
        yield HubSource(job.source)
    elif job.origin == DatasetImport.Origin.EXTRACTIONS:
        yield ExtractionSource(job.options["extractions"])
    elif job.origin == DatasetImport.Origin.REVIEWS:
        yield ReviewSource(make=job.options["make"], reviews=job.options["reviews"])
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield open_source(_local(job, Path(folder)))


def _local(job: DatasetImport, folder: Path) -> Path:
    """The upload as a file of this machine. Raises JobFailed if it is gone."""
    try:
        return Path(job.file.path)
    except NotImplementedError:
        pass
    path = folder / "upload"
    try:
        with default_storage.open(job.file.name) as stored, path.open("wb") as copy:
            shutil.copyfileobj(stored, copy, 1024 * 1024)
    except FileNotFoundError as error:
        raise JobFailed(
            "The upload is gone from the storage. Upload it again.", code="file_missing"
        ) from error
    return path


def version_make(
    *,
    dataset: Dataset,
    source: Source,
    source_name: str,
    options: IntakeOptions,
    folder: Path,
    drop_bad_rows: bool,
    dropped_by: User | None,
    licence: str,
    tick: Any,
    job: DatasetImport | None = None,
) -> DatasetVersion:
    """Reads the source and keeps it as the dataset's next version. Raises ApplicationError."""
    parent = dataset.versions.order_by("-number").first()
    intake = take_in(source, options, folder=folder, earlier=_earlier(parent), tick=tick)
    kind = intake.format.kind
    if dataset.kind and dataset.kind != kind:
        raise ApplicationError(
            f"{dataset} holds {dataset.get_kind_display()}, and these rows are "
            f"{Dataset.Kind(kind).label}. Give the new dataset another name.",
            code="another_kind",
            param="name",
        )
    content_put(folder, intake.index)
    version = _version(
        dataset, parent, intake, options, source_name, licence, drop_bad_rows, dropped_by
    )
    facts_put(folder, version)
    with transaction.atomic():
        locked = Dataset.objects.select_for_update().get(pk=dataset.pk)
        last = locked.versions.aggregate(last=Max("number"))["last"] or 0
        version.number = last + 1
        version.save(force_insert=True)
        Dataset.objects.filter(pk=dataset.pk, kind="").update(kind=kind)
        if job is not None:
            DatasetImport.objects.filter(pk=job.pk).update(version=version)
            job.version = version
    # The last version with these very rows may have been deleted since they were found there.
    content_put(folder, intake.index)
    return version


def _earlier(parent: DatasetVersion | None) -> Earlier:
    if parent is None:
        return Earlier()
    pins = {int(group): split for group, split in parent.pins.items()}
    return Earlier(parent.number, pins, test_prompts(parent))


def _version(
    dataset: Dataset,
    parent: DatasetVersion | None,
    intake: Intake,
    options: IntakeOptions,
    source_name: str,
    licence: str,
    drop_bad_rows: bool,
    dropped_by: User | None,
) -> DatasetVersion:
    report, index = intake.report, intake.index
    ready = trainable(report, drop_bad_rows=drop_bad_rows)
    return DatasetVersion(
        dataset=dataset,
        parent=parent,
        state=DatasetVersion.State.READY if ready else DatasetVersion.State.INVALID,
        sha256=index.sha256,
        bytes=sum(shard.bytes for shard in index.shards),
        stored_rows=index.rows,
        rows=report["rows"],
        tokens=report["tokens"]["total"],
        tokenizer=options.tokenizer[:500],
        format=intake.format.name,
        source=source_name[:500],
        licence=licence,
        seed=options.seed,
        shares={"validation": options.shares.validation, "test": options.shares.test},
        pins={str(group): split for group, split in intake.pins.items()},
        split_counts={name: one["rows"] for name, one in report["splits"].items()},
        rows_bad=report["rows_bad"],
        bad_rows_dropped=drop_bad_rows and report["rows_bad"] > 0,
        dropped_by=dropped_by if drop_bad_rows else None,
        report=report,
    )
