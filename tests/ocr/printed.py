"""Pages whose every word has a known place, and jobs that have read them without an engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from typing import Any

from django.utils import timezone
from PIL import Image, ImageDraw, ImageFont

from mlops.models import Job
from ocr import exports
from ocr.models import OcrJob, PageResult
from tests.factories import DocumentFactory, OcrJobFactory

Box = tuple[float, float, float, float]


@dataclass(slots=True)
class Printed:
    """A page and what stands on it: `lines` as PageResult keeps them, `words` with their boxes."""

    image: Image.Image
    lines: list[dict[str, Any]] = field(default_factory=list)
    words: list[tuple[str, Box]] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n".join(line["text"] for line in self.lines)

    def bytes(self, form: str = "PNG", **options: object) -> bytes:
        target = BytesIO()
        self.image.save(target, form, **options)
        return target.getvalue()


def printed(
    texts: list[str], size: tuple[int, int] = (700, 400), *, at: tuple[int, int] = (60, 40)
) -> Printed:
    """`texts` one under the other. Each line has its box, none says where its words are."""
    page = Printed(Image.new("RGB", size, "white"))
    pen, face = ImageDraw.Draw(page.image), _face()
    x, y = at
    for text in texts:
        pen.text((x, y), text, font=face, fill="black")
        boxes = []
        for start, word in _words(text):
            left, top, right, bottom = pen.textbbox(
                (x + face.getlength(text[:start]), y), word, face
            )
            boxes.append((left, top, right, bottom))
            page.words.append((word, boxes[-1]))
        left, right = boxes[0][0], boxes[-1][2]
        top, bottom = min(box[1] for box in boxes) - 3, max(box[3] for box in boxes) + 3
        corners = [[left, top], [right, top], [right, bottom], [left, bottom]]
        page.lines.append({"text": text, "confidence": 0.97, "polygon": corners})
        y += 60
    return page


def line(text: str, box: Box = (10, 10, 300, 40), **more: Any) -> dict[str, Any]:
    left, top, right, bottom = box
    corners = [[left, top], [right, top], [right, bottom], [left, bottom]]
    return {"text": text, "confidence": 0.9, "polygon": corners} | more


def read_job(content: bytes, pages: list[dict[str, Any]], **options: Any) -> OcrJob:
    """A job that has read the document `content`; each of `pages` holds fields of a PageResult."""
    document = DocumentFactory(content=content, name=options.pop("name", "scan.png"))
    job = OcrJobFactory(
        document=document, status=Job.Status.SUCCEEDED, finished_at=timezone.now(), **options
    )
    rows = {page.number: page for page in document.pages.all()}
    for number, given in enumerate(pages, 1):
        fields = {"engine": "rapidocr", "language": "en", "model_version": "a model"} | given
        fields.setdefault("text", "\n".join(one["text"] for one in fields.get("lines", [])))
        page = rows[fields.pop("number", number)]
        PageResult.objects.create(job=job, page=page, **fields)
    return job


@cache
def _face() -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(36)


def _words(text: str) -> list[tuple[int, str]]:
    found, start = [], 0
    for word in text.split():
        start = text.index(word, start)
        found.append((start, word))
        start += len(word)
    return found


def made(job: OcrJob, form: str) -> bytes:
    target = BytesIO()
    exports.write(job, form, target)
    return target.getvalue()
