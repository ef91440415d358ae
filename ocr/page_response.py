"""One page of a document as a JPEG for browsers; the upload itself is never shown."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.utils.cache import get_conditional_response

from mlops.exceptions import ApplicationError, JobFailed
from ocr.models import Document
from ocr.pages import BadPage, open_pages, page_jpeg
from ocr.runner import limits, local_copy

SIDES = range(32, 4001)
TURNS = ("0", "90", "180", "270")
# Lists show many of these at once, and a dozen kilobytes each is worth keeping.
THUMBNAIL = 400


def page_image_response(
    request: HttpRequest,
    document: Document,
    number: int,
    *,
    dpi: int | None = None,
    rotation: int | None = None,
) -> HttpResponse:
    """Page `number`, counted from 1, at `dpi` if it is a PDF's; `?max_side=` makes it smaller.

    `rotation`, else `?rotation=`, is by how many degrees it is turned clockwise: with what its
    result says, the polygons lie on the words.

    The caller has seen to it that the user may see the document. Raises ApplicationError.
    """
    if not document.pages.filter(number=number).exists():
        raise ApplicationError(
            f"The document has {document.page_count} pages, and no page {number}.",
            code="not_found",
            status=404,
        )
    side, dpi = max_side(request.GET.get("max_side")), dpi or settings.OCR_DPI
    turn = quarter_turn(request.GET.get("rotation")) if rotation is None else rotation
    etag = f'"{document.sha256[:32]}-{number}-{dpi}-{turn}-{side or "full"}"'
    response = get_conditional_response(request, etag=etag)
    if response is None:
        sheet = _Sheet(document, number, dpi, side, turn)
        response = HttpResponse(_jpeg(sheet, etag), content_type="image/jpeg")
    response["ETag"] = etag
    # Asked for anew each time, which costs a 304: the right to see the page may have ended.
    response["Cache-Control"] = "private, no-cache"
    return response


def max_side(text: str | None) -> int | None:
    if not text:
        return None
    if not text.isdecimal() or int(text) not in SIDES:
        raise ApplicationError(
            f"max_side is {text}; it must be from {SIDES.start} to {SIDES.stop - 1} pixels.",
            code="out_of_range",
            param="max_side",
        )
    return int(text)


def quarter_turn(text: str | None) -> int:
    if text and text not in TURNS:
        raise ApplicationError(
            f"rotation is {text}; it must be one of: {', '.join(TURNS)} degrees clockwise.",
            code="unknown_choice",
            param="rotation",
        )
    return int(text or 0)


@dataclass(frozen=True, slots=True)
class _Sheet:
    """What to draw."""

    document: Document
    number: int
    dpi: int
    side: int | None
    rotation: int


def _jpeg(sheet: _Sheet, key: str) -> bytes:
    if sheet.side is None or sheet.side > THUMBNAIL:
        return _render(sheet)
    return cache.get_or_set(f"page:{key}", lambda: _render(sheet))


def _render(sheet: _Sheet) -> bytes:
    side = sheet.side
    # A sheet of paper is about 12 inches long: a small picture of it is drawn from fewer pixels.
    drawn = min(sheet.dpi, max(36, side // 6)) if side else sheet.dpi
    try:
        with (
            local_copy(sheet.document) as path,
            open_pages(path, dpi=drawn, limits=limits()) as source,
        ):
            page = source.render(sheet.number - 1)
            return page_jpeg(page.turned(sheet.rotation), max_side=side)
    except JobFailed as error:
        raise ApplicationError(error.message, code=error.code, status=404) from error
    except BadPage as error:
        raise ApplicationError(str(error), code="bad_page", status=422) from error
