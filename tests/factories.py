"""Rows for tests, made as the platform makes them: a document's file is a real one."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import factory
from django.contrib.auth.models import Group
from PIL import Image

from mlops.models import User
from ocr import services
from ocr.models import Document, OcrJob, PageResult

PASSWORD = "a long enough passphrase"


def png(width: int = 240, height: int = 120, *, shade: int = 255) -> bytes:
    """An image of one shade of gray: each shade is another document."""
    target = BytesIO()
    Image.new("L", (width, height), shade).save(target, "PNG")
    return target.getvalue()


class UserFactory(factory.django.DjangoModelFactory):
    """`role="annotator"` puts the user in that group."""

    class Meta:
        model = User
        skip_postgeneration_save = True

    username = factory.Sequence("user{}".format)
    password = factory.django.Password(PASSWORD)

    @factory.post_generation
    def role(self, create: bool, name: str | None, **_: Any) -> None:
        if create and name:
            self.groups.add(Group.objects.get(name=name))


class StaffFactory(UserFactory):
    is_staff = True


class DocumentFactory(factory.django.DjangoModelFactory):
    """`content` is the file's bytes: a small PNG unless others are given."""

    class Meta:
        model = Document

    owner = factory.SubFactory(UserFactory)
    name = factory.Sequence("scan-{}.png".format)
    source = Document.Source.API
    content = factory.Sequence(lambda number: png(shade=number % 256))

    @classmethod
    def _create(cls, model: type[Document], *_: Any, **given: Any) -> Document:
        return services.document_create(file=BytesIO(given.pop("content")), **given)


class OcrJobFactory(factory.django.DjangoModelFactory):
    """Not sent to anyone; any field of the row may be given, `status` too."""

    class Meta:
        model = OcrJob

    document = factory.SubFactory(DocumentFactory)
    owner = factory.SelfAttribute("document.owner")
    kind = OcrJob.KIND
    queue = OcrJob.QUEUE
    engine = "rapidocr"
    language = "en"
    min_confidence = 0.5
    dpi = 150
    progress_total = factory.SelfAttribute("document.page_count")


class PageResultFactory(factory.django.DjangoModelFactory):
    """Two lines on the job's first page, the second one below the usual threshold."""

    class Meta:
        model = PageResult

    job = factory.SubFactory(OcrJobFactory)
    page = factory.LazyAttribute(lambda result: result.job.document.pages.first())
    lines = factory.LazyFunction(
        lambda: [
            {
                "text": "Shelf mark K-1037",
                "confidence": 0.98,
                "polygon": [[10, 10], [200, 10], [200, 40], [10, 40]],
            },
            {
                "text": "pencil silver",
                "confidence": 0.31,
                "polygon": [[10, 60], [160, 60], [160, 90], [10, 90]],
            },
        ]
    )
    text = factory.LazyAttribute(lambda one: "\n".join(line["text"] for line in one.lines))
    mean_confidence = 0.645
    width = 240
    height = 120
    engine = "rapidocr"
    language = "en"
    model_version = "a model"
