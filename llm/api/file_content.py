"""A stored file as a download: whole or a range of it, read as it is sent."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import content_disposition_header

from llm.models import StoredFile
from mlops.exceptions import ApplicationError

PIECE = 2**18
RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def content_response(file: StoredFile, wanted: str | None) -> HttpResponseBase:
    """`wanted` is the Range header: 206 for one range of bytes, 416 for one beyond the file.

    Several ranges, and what is no range, are answered with the whole file, as HTTP allows.
    """
    span = byte_range(wanted or "", file.bytes)
    if span is None:
        response: HttpResponseBase = HttpResponse(status=416)
        response.headers["Content-Range"] = f"bytes */{file.bytes}"
        return response
    start, end = span
    try:
        opened = file.file.storage.open(file.file.name)
    except FileNotFoundError as error:
        raise ApplicationError(
            f"The content of {file.pk} is gone from the storage.", code="file_missing", status=404
        ) from error
    partial = end - start < file.bytes
    response = StreamingHttpResponse(
        _pieces(opened, start, end), content_type="application/octet-stream"
    )
    response.status_code = 206 if partial else 200
    response.headers["Content-Length"] = str(end - start)
    response.headers["Accept-Ranges"] = "bytes"
    if partial:
        response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.bytes}"
    # A download, never shown: what is in it is a stranger's.
    response.headers["Content-Disposition"] = content_disposition_header(True, file.filename)
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """(start, end) of what to send, end exclusive; None if nothing of the file is in the range."""
    match = RANGE.fullmatch(header.strip())
    if match is None or match.group(1) == match.group(2) == "":
        return 0, size
    first, last = match.groups()
    if first == "":
        # The last so many bytes.
        return (max(0, size - int(last)), size) if int(last) else None
    start = int(first)
    end = min(size, int(last) + 1) if last else size
    if last and int(last) < start:
        return 0, size
    return (start, end) if start < size else None


async def _pieces(opened: Any, start: int, end: int) -> AsyncIterator[bytes]:
    try:
        await sync_to_async(opened.seek)(start)
        left = end - start
        while left and (piece := await sync_to_async(opened.read)(min(PIECE, left))):
            left -= len(piece)
            yield piece
    finally:
        await sync_to_async(opened.close)()
