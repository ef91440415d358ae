"""What `manage.py ocr_watch` does: takes files up as they come, and writes out what was read.

Rows remember what has been taken up, so that a restart neither reads nor writes anything twice. The
reading itself is done by workers.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

import structlog
from django.db.models import QuerySet
from django.db.models.functions import Now

from mlops.exceptions import ApplicationError, JobFailed
from mlops.models import Job, User
from ocr import exports, services
from ocr.models import Document, OcrJob, WatchedFile
from ocr.places import Place, Seen, copy

log = structlog.get_logger(__name__)

CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """`settle`: seconds for which a file must not have changed; `at_once`: jobs in the queue."""

    formats: tuple[str, ...]
    engine: str = "auto"
    language: str = "auto"
    settle: float = 2.0
    at_once: int = 100


@dataclass(slots=True)
class Counts:
    taken: int = 0
    done: int = 0
    failed: int = 0


class Watcher:
    """`source` is looked through by `look()`; `finish()` writes what has been read since.

    Outputs are named after the whole file (`a.png.txt`), so that `a.png` and `a.jpg` don't meet.
    Why a file failed stands in `failed/<name>.txt` of the output. `done`: where files go that have
    been read; without it they stay where they are.
    """

    def __init__(
        self,
        source: Place,
        out: Place,
        options: WatchOptions,
        *,
        done: Place | None = None,
        owner: User | None = None,
    ) -> None:
        self._source, self._out, self._done = source, out, done
        self._options, self._owner = options, owner
        what = {**asdict(options), "out": out.name, "owner": owner.pk if owner else None}
        # How patiently files are waited for makes no difference to what comes out.
        text = json.dumps({**what, "settle": 0, "at_once": 0}, sort_keys=True)
        self._key = hashlib.sha256(text.encode()).hexdigest()
        ended = self._rows().exclude(status=WatchedFile.Status.WAITING)
        self._handled = dict(ended.order_by("pk").values_list("name", "signature"))
        self._seen: dict[str, tuple[str, float]] = {}
        self.counts = Counts()

    def waiting(self) -> int:
        """Files that have been taken up and not yet written out."""
        return self._rows().filter(status=WatchedFile.Status.WAITING).count()

    def look(self) -> int:
        """Takes up what is new and has settled; returns how many files are still being written."""
        room = self._options.at_once - self.waiting()
        unsettled, present = 0, set()
        for file in self._source.documents():
            present.add(file.name)
            if self._handled.get(file.name) == file.signature:
                continue
            if room <= 0 or not self._settled(file):
                unsettled += 1
                continue
            self._handled[file.name] = file.signature
            room -= self._take_up(file)
        for gone in self._seen.keys() - present:
            del self._seen[gone]
        return unsettled

    def finish(self) -> int:
        """Writes out the jobs that have ended; returns how many."""
        ended = [Job.Status.SUCCEEDED, Job.Status.FAILED, Job.Status.CANCELLED]
        rows = self._rows().filter(status=WatchedFile.Status.WAITING, job__status__in=ended)
        count = 0
        for row in rows.select_related("job__document").order_by("pk")[: self._options.at_once]:
            self._write_out(row)
            count += 1
        # A job whose rows were deleted is taken up again when its file is seen anew.
        self._rows().filter(status=WatchedFile.Status.WAITING, job=None).delete()
        return count

    def _rows(self) -> QuerySet[WatchedFile]:
        return WatchedFile.objects.filter(place=self._source.name, settings_key=self._key)

    def _settled(self, file: Seen) -> bool:
        signature, since = self._seen.get(file.name, ("", 0.0))
        now = time.monotonic()
        if signature != file.signature:
            self._seen[file.name] = (file.signature, now)
            return self._options.settle <= 0
        if now - since < self._options.settle:
            return False
        del self._seen[file.name]
        return True

    def _take_up(self, file: Seen) -> int:
        """1 if a job was made for it; 0 if it is known, or is no document."""
        try:
            with self._source.open(file.name) as content:
                return self._submit(file, content, _sha256(content))
        except FileNotFoundError:
            self._handled.pop(file.name, None)
        except OSError as error:
            self._fail(self._new_row(file, ""), f"The file can't be read: {error}")
        return 0

    def _submit(self, file: Seen, content: Any, sha256: str) -> int:
        known = self._rows().filter(name=file.name, sha256=sha256).first()
        if known is not None:
            # Touched, or seen again after a restart: the content is what it was.
            WatchedFile.objects.filter(pk=known.pk).update(signature=file.signature)
            if known.status == WatchedFile.Status.DONE:
                self._put_away(file.name)
            return 0
        row = self._new_row(file, sha256)
        try:
            document = services.document_reuse_or_create(
                file=content,
                name=file.name,
                source=Document.Source.COMMAND,
                owner=self._owner,
            )
            row.job = services.ocr_job_submit(
                document=document,
                owner=self._owner,
                engine=self._options.engine,
                language=self._options.language,
            )
        except ApplicationError as error:
            self._fail(row, error.message)
            return 0
        row.save(update_fields=["job"])
        self.counts.taken += 1
        log.info("file_taken_up", file=file.name, job_id=str(row.job.pk))
        return 1

    def _new_row(self, file: Seen, sha256: str) -> WatchedFile:
        row, _created = WatchedFile.objects.get_or_create(
            place=self._source.name,
            name=file.name,
            sha256=sha256,
            settings_key=self._key,
            defaults={"signature": file.signature},
        )
        return row

    def _write_out(self, row: WatchedFile) -> None:
        job = OcrJob.objects.select_related("document").get(pk=row.job_id)
        try:
            if job.results.filter(error="").exists():
                for form in self._options.formats:
                    suffix, _media_type = exports.file_type(job, form)
                    self._out.write(f"{row.name}{suffix}", _writer(job, form))
        except (OSError, JobFailed) as error:
            self._fail(row, f"The output could not be written: {error}")
            return
        if job.status != Job.Status.SUCCEEDED:
            self._fail(row, job.error or f"The job was {job.status}.")
            return
        self._end(row, WatchedFile.Status.DONE, "")
        self._out.delete(_failure_name(row.name))
        self._put_away(row.name)
        self.counts.done += 1

    def _put_away(self, name: str) -> None:
        if self._done is None:
            return
        try:
            with self._source.open(name) as content:
                self._done.write(name, copy(content))
        except FileNotFoundError:
            return
        self._source.delete(name)
        self._handled.pop(name, None)

    def _fail(self, row: WatchedFile, reason: str) -> None:
        self._end(row, WatchedFile.Status.FAILED, reason)
        self.counts.failed += 1
        log.warning("file_failed", file=row.name, reason=reason)
        text = f"{reason}\n".encode()
        self._out.write(_failure_name(row.name), lambda target: target.write(text) and None)

    def _end(self, row: WatchedFile, status: str, error: str) -> None:
        WatchedFile.objects.filter(pk=row.pk).update(status=status, error=error, ended_at=Now())


def _failure_name(name: str) -> str:
    return f"failed/{name}.txt"


def _writer(job: OcrJob, form: str) -> Callable[[BinaryIO], None]:
    return lambda target: exports.write(job, form, target)


def _sha256(content: Any) -> str:
    digest = hashlib.sha256()
    while chunk := content.read(CHUNK):
        digest.update(chunk)
    content.seek(0)
    return digest.hexdigest()
