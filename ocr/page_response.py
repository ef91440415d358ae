"""One page of a document as a JPEG for browsers; the upload itself is never shown."""

from __future__ import annotations

from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.utils.cache import get_conditional_response

from mlops.exceptions import ApplicationError, JobFailed
from ocr.models import Document
from ocr.pages import BadPage, open_pages, page_jpeg
from ocr.runner import limits, local_copy

SIDES = range(32, 4001)
# Lists show many of these at once, and a dozen kilobytes each is worth keeping.
THUMBNAIL = 400


def page_image_response(
    request: HttpRequest, document: Document, number: int, *, dpi: int | None = None
) -> HttpResponse:
    """Page `number`, counted from 1, at `dpi` if it is a PDF's; `?max_side=` makes it smaller.

    The caller has seen to it that the user may see the document. Raises ApplicationError.
    """
    if not document.pages.filter(number=number).exists():
        raise ApplicationError(
            f"The document has {document.page_count} pages, and no page {number}.",
            code="not_found",
            status=404,
        )
    side, dpi = max_side(request.GET.get("max_side")), dpi or settings.OCR_DPI
    etag = f'"{document.sha256[:32]}-{number}-{dpi}-{side or "full"}"'
    response = get_conditional_response(request, etag=etag)
    if response is None:
        response = HttpResponse(_jpeg(document, number, dpi, side, etag), content_type="image/jpeg")
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


def _jpeg(document: Document, number: int, dpi: int, side: int | None, key: str) -> bytes:
    if side is None or side > THUMBNAIL:
        return _render(document, number, dpi, side)
    return cache.get_or_set(f"page:{key}", lambda: _render(document, number, dpi, side))


def _render(document: Document, number: int, dpi: int, side: int | None) -> bytes:
    # A sheet of paper is about 12 inches long: a small picture of it is drawn from fewer pixels.
    drawn = min(dpi, max(36, side // 6)) if side else dpi
    try:
        with (
            local_copy(document) as path,
            open_pages(path, dpi=drawn, limits=limits()) as source,
        ):
            return page_jpeg(source.render(number - 1), max_side=side)
    except JobFailed as error:
        raise ApplicationError(error.message, code=error.code, status=404) from error
    except BadPage as error:
        raise ApplicationError(str(error), code="bad_page", status=422) from error
