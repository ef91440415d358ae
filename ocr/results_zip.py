"""All results of a batch as one zip, made while it is sent: no more than one document in memory."""

from __future__ import annotations

import json
import zipfile
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import PurePosixPath
from tempfile import TemporaryFile
from typing import Any

from asgiref.sync import sync_to_async
from django.http import StreamingHttpResponse
from django.utils.http import content_disposition_header

from mlops.exceptions import ApplicationError, JobFailed
from mlops.models import Job
from ocr import exports, selectors
from ocr.models import BatchItem, OcrBatch

CHUNK = 2**18


def zip_response(batch: OcrBatch, formats: Sequence[str]) -> StreamingHttpResponse:
    """Raises ApplicationError for a format that isn't one."""
    unknown = [form for form in formats if form not in exports.FORMATS]
    if unknown or not formats:
        raise ApplicationError(
            f"There is no format '{', '.join(unknown)}'. "
            f"Choose from: {', '.join(exports.FORMATS)}.",
            code="unknown_format",
            param="formats",
        )
    response = StreamingHttpResponse(_streamed(batch, formats), content_type="application/zip")
    name = f"{PurePosixPath(batch.name).name or 'results'}.zip"
    response.headers["Content-Disposition"] = content_disposition_header(True, name)
    return response


async def _streamed(batch: OcrBatch, formats: Sequence[str]) -> AsyncIterator[bytes]:
    chunks = zip_chunks(batch, formats)
    while chunk := await sync_to_async(next)(chunks, b""):
        yield chunk


def zip_chunks(batch: OcrBatch, formats: Sequence[str]) -> Iterator[bytes]:
    """The zip in pieces: an entry a document and format, and `failures.json` if there are any."""
    pipe, names = _Pipe(), _Names()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        items = batch.items.filter(job__status__in=[Job.Status.SUCCEEDED, Job.Status.FAILED])
        for item in items.select_related("job__document").iterator(chunk_size=100):
            stem = names.take(item)
            for form in formats:
                yield from _entry(archive, pipe, item, stem, form)
        failures = list(selectors.batch_failures(batch))
        if failures:
            archive.writestr("failures.json", json.dumps(failures, ensure_ascii=False, indent=1))
    yield from pipe.taken()


def _entry(
    archive: zipfile.ZipFile, pipe: _Pipe, item: BatchItem, stem: str, form: str
) -> Iterator[bytes]:
    if not item.job.results.filter(error="").exists():
        return
    # What is written to an archive can't be taken back: a result that fails must fail before.
    with TemporaryFile() as file:
        try:
            exports.write(item.job, form, file)
        except JobFailed:
            return
        file.seek(0)
        suffix, _media_type = exports.file_type(item.job, form)
        with archive.open(f"{stem}{suffix}", "w", force_zip64=True) as entry:
            while chunk := file.read(CHUNK):
                entry.write(chunk)
                yield from pipe.taken()


class _Pipe:
    """A file that zipfile writes to and that is emptied as it fills."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []

    def write(self, data: Any) -> int:
        self._chunks.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def taken(self) -> Iterator[bytes]:
        whole = b"".join(self._chunks)
        self._chunks.clear()
        if whole:
            yield whole


class _Names:
    """Names of entries: safe to unpack anywhere, and each one only once."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def take(self, item: BatchItem) -> str:
        path = PurePosixPath(item.name.replace("\\", "/"))
        parts = [part for part in path.with_suffix("").parts if part not in ("/", "..", ".")]
        stem = name = "/".join(parts).replace(":", "_") or "document"
        count = 1
        while name.lower() in self._used:
            count += 1
            name = f"{stem} ({count})"
        self._used.add(name.lower())
        return name
