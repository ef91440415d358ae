"""Rows, problems and pictures as responses, read from the storage as they are sent."""

from __future__ import annotations

import zlib
from base64 import b64decode
from collections.abc import AsyncIterator, Iterator
from io import BytesIO

from asgiref.sync import sync_to_async
from django.core.files.storage import default_storage
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.utils.cache import get_conditional_response
from django.utils.http import content_disposition_header
from PIL import Image

from finetune.content.facts import PROBLEMS_FILE, SPLITS
from finetune.content.reader import ContentReader
from finetune.models import DatasetVersion, ModelVersion
from finetune.version_files import splits_of
from mlops.exceptions import ApplicationError
from ocr.page_image import page_image, page_png

PIECE = 2**18
# Longer sides are made smaller: a line is looked at, not read by a machine.
LONGEST_SIDE = 1600


def rows_response(version: DatasetVersion, split: str) -> StreamingHttpResponse:
    """Gzipped JSON lines; as they are stored, where that is all that was asked for."""
    reader = ContentReader(version.sha256)
    whole = not split and version.rows == version.stored_rows
    pieces = reader.packed() if whole else _chosen(reader, splits_of(version), split)
    name = "-".join(filter(None, [version.dataset.name, f"v{version.number}", split]))
    return _attachment(pieces, f"{name}.jsonl.gz")


def problems_response(version: DatasetVersion) -> StreamingHttpResponse:
    """Raises ApplicationError where the file is gone."""
    name = f"{version.folder}/{PROBLEMS_FILE}"
    if not default_storage.exists(name):
        raise ApplicationError(
            "The problems of this version are gone from the storage.",
            code="content_missing",
            status=404,
        )
    return _attachment(_file(name), f"{version.dataset.name}-v{version.number}-problems.jsonl.gz")


def picture_response(request: HttpRequest, version: DatasetVersion, number: int) -> HttpResponse:
    """The picture of row `number` (from 0), encoded anew: an upload itself is never shown."""
    etag = f'"{version.sha256[:32]}-{number}"'
    response = get_conditional_response(request, etag=etag)
    if response is None:
        row = ContentReader(version.sha256).row(number)
        if "image" not in row:
            raise ApplicationError(
                "The rows of this dataset have no pictures.", code="not_found", status=404
            )
        with Image.open(BytesIO(b64decode(row["image"]))) as image:
            content = page_png(page_image(image), max_side=LONGEST_SIDE)
        response = HttpResponse(content, content_type="image/png")
    response["ETag"] = etag
    response["Cache-Control"] = "private, no-cache"
    return response


def model_file_response(version: ModelVersion, name: str) -> StreamingHttpResponse:
    """One of the files of a trained model. Raises ApplicationError where there is none such."""
    place = f"{version.folder}/{name}"
    if name not in version.files or not default_storage.exists(place):
        raise ApplicationError(
            f"{version} has no file '{name}'.", code="not_found", status=404, param="name"
        )
    response = _attachment(_file(place), name.rsplit("/", 1)[-1], "application/octet-stream")
    response.headers["Content-Length"] = str(version.files[name][0])
    return response


def _chosen(reader: ContentReader, splits: bytes, split: str) -> Iterator[bytes]:
    wanted = {SPLITS[split]} if split else set(SPLITS.values())
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    for first, block in reader.blocks():
        lines = block.splitlines(keepends=True)
        kept = [line for number, line in enumerate(lines, first) if splits[number] in wanted]
        if piece := packer.compress(b"".join(kept)):
            yield piece
    yield packer.flush()


def _file(name: str) -> Iterator[bytes]:
    with default_storage.open(name) as file:
        while piece := file.read(PIECE):
            yield piece


def _attachment(
    pieces: Iterator[bytes], name: str, media_type: str = "application/gzip"
) -> StreamingHttpResponse:
    response = StreamingHttpResponse(_sent(pieces), content_type=media_type)
    response.headers["Content-Disposition"] = content_disposition_header(True, name)
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


async def _sent(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    while piece := await sync_to_async(next)(pieces, b""):
        yield piece
