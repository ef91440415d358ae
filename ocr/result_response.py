"""A job's result as a download: its format's media type, a file name, and little memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import PurePath
from tempfile import TemporaryFile
from typing import BinaryIO

from asgiref.sync import sync_to_async
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import content_disposition_header

from mlops.exceptions import ApplicationError, JobFailed, NotAllowed
from ocr import exports
from ocr.models import OcrJob

# Shown by the browser; the others are for other programs, and hold what an upload says.
_SHOWN = ("json", "txt")
# Bytes; what is no longer than the first goes out in one piece.
_SHORT = 2**20
_PIECE = 2**18


def result_response(job: OcrJob, form: str) -> HttpResponseBase:
    """The job's result in format `form`. Raises ApplicationError; NotAllowed before its end."""
    if form not in exports.FORMATS:
        raise ApplicationError(
            f"There is no format '{form}'. Choose one of: {', '.join(exports.FORMATS)}.",
            code="unknown_format",
            param="format",
        )
    if not job.finished:
        raise NotAllowed(
            f"The job is {job.status}: {job.progress_done} of {job.progress_total} pages are "
            "read. Ask again once it has ended.",
            code="not_finished",
        )
    suffix, media_type = exports.file_type(job, form)
    file = TemporaryFile()  # noqa: SIM115  (closed when it has been sent)
    try:
        exports.write(job, form, file)
    except JobFailed as error:
        file.close()
        raise ApplicationError(error.message, code=error.code, status=404) from error
    length = file.tell()
    file.seek(0)
    if length <= _SHORT:
        with file:
            response = HttpResponse(file.read(), content_type=media_type)
    else:
        response = StreamingHttpResponse(_pieces(file), content_type=media_type)
        response.headers["Content-Length"] = str(length)
    name = PurePath(job.document.name).stem + suffix
    disposition = content_disposition_header(form not in _SHOWN, name)
    response.headers["Content-Disposition"] = disposition
    return response


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    with file:
        while piece := await sync_to_async(file.read)(_PIECE):
            yield piece
