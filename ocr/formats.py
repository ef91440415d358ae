"""Which files are accepted as documents, told by their bytes, and why the others are refused."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import BinaryIO

from mlops.exceptions import ApplicationError

ACCEPTED = "PDF, PNG, JPEG, TIFF, WebP, HEIC, AVIF, JPEG 2000, GIF or BMP"


class BadDocument(ApplicationError):
    """The upload can't be read as a document; `code` names the fault."""

    code = "bad_document"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a document may cost. Pillow's own ceiling of 178 million pixels stands above these."""

    max_bytes: int = 50 * 1024 * 1024
    max_pages: int = 2_000
    max_pixels: int = 80_000_000


@dataclass(frozen=True, slots=True)
class Kind:
    name: str
    media_type: str
    extension: str


PNG = Kind("PNG", "image/png", ".png")
JPEG = Kind("JPEG", "image/jpeg", ".jpg")
TIFF = Kind("TIFF", "image/tiff", ".tif")
WEBP = Kind("WEBP", "image/webp", ".webp")
BMP = Kind("BMP", "image/bmp", ".bmp")
GIF = Kind("GIF", "image/gif", ".gif")
AVIF = Kind("AVIF", "image/avif", ".avif")
HEIF = Kind("HEIF", "image/heic", ".heic")
JPEG2000 = Kind("JPEG2000", "image/jp2", ".jp2")
PDF = Kind("PDF", "application/pdf", ".pdf")

# ISO base media files say what they are in a list of brands.
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})


def identify(stream: BinaryIO, limits: Limits) -> Kind:
    """The kind by the first bytes, within the limit on size; the stream is left at its start."""
    stream.seek(0, os.SEEK_END)
    size = stream.tell()
    stream.seek(0)
    if not size:
        raise BadDocument("The file is empty. Send the document again.", code="empty_file")
    if size > limits.max_bytes:
        raise BadDocument(
            f"The file has {size:,} bytes; {limits.max_bytes:,} are accepted. "
            "Split it, or scan at a lower resolution.",
            code="file_too_large",
            status=413,
        )
    head = stream.read(1024)
    stream.seek(0)
    if kind := _sniff(head):
        return kind
    raise BadDocument(
        f"The file's content is none of the accepted types, whatever its name says: "
        f"send {ACCEPTED}.",
        code="unsupported_type",
    )


def _sniff(head: bytes) -> Kind | None:
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return PNG
    if head.startswith(b"\xff\xd8\xff"):
        return JPEG
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return TIFF
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return WEBP
    # Two letters are not enough of a signature: the size of the second header must be a known one.
    if head.startswith(b"BM") and head[14:18] in {
        bytes([n, 0, 0, 0]) for n in (12, 40, 52, 56, 64, 108, 124)
    }:
        return BMP
    if head.startswith((b"GIF87a", b"GIF89a")):
        return GIF
    if head.startswith((b"\x00\x00\x00\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")):
        return JPEG2000
    if head[4:8] == b"ftyp":
        return _by_brand(head)
    return PDF if b"%PDF-" in head else None


def _by_brand(head: bytes) -> Kind | None:
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))}
    # AVIF files name the brand of all such pictures too, so theirs is looked for first.
    if brands & _AVIF_BRANDS:
        return AVIF
    return HEIF if brands & _HEIF_BRANDS else None


def check_count(pages: int, limits: Limits) -> None:
    if not pages:
        raise BadDocument("The document has no pages. Export it again.", code="no_pages")
    if pages > limits.max_pages:
        raise BadDocument(
            f"The document has more than {limits.max_pages:,} pages. Split it.",
            code="too_many_pages",
        )


def damaged() -> BadDocument:
    return BadDocument(
        "The file is damaged or cut short. Open it to check, then send it again.",
        code="damaged_file",
    )


def too_large(size: str, allowed: int) -> BadDocument:
    return BadDocument(
        f"The image has {size}; {allowed:,} in all are accepted. Scale it down.",
        code="too_many_pixels",
    )


def pdf_refused(error: int) -> BadDocument:
    import pypdfium2.raw as raw

    if error in (raw.FPDF_ERR_PASSWORD, raw.FPDF_ERR_SECURITY):
        return BadDocument(
            "The PDF needs a password. Save it without one and send it again.",
            code="encrypted_pdf",
        )
    return damaged()
