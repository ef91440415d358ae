"""Datasets out of corrected pages: crops of lines, texts and their corrections, with lineage."""

from __future__ import annotations

from base64 import b64decode
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageStat
from rest_framework.test import APIClient

from finetune import services
from finetune.models import DatasetVersion
from finetune.product_rows import cut
from finetune.tasks import import_dataset
from finetune.version_files import version_rows
from mlops.exceptions import ApplicationError
from mlops.models import User
from ocr.models import PageReview
from ocr.services import line_edit, review_accept, review_begin
from tests.factories import DocumentFactory, OcrJobFactory, PageResultFactory

pytestmark = pytest.mark.django_db

# Each line stands on a ground of its own: a crop shows where it was cut.
SHADES = (40, 120, 200)


def scan(page: int = 0) -> bytes:
    image = Image.new("L", (240, 120), 255)
    for n, shade in enumerate(SHADES):
        place = (10, 10 + 36 * n, 200, 34 + 36 * n)
        ImageDraw.Draw(image).rectangle(place, fill=shade + page)
    target = BytesIO()
    image.save(target, "PNG")
    return target.getvalue()


def reviewed(owner: User, page: int = 0, *, accept: bool = True) -> PageReview:
    """A page of three lines, of which the second is corrected."""
    name = f"page {page}"
    document = DocumentFactory(owner=owner, name=f"{name}.png", content=scan(page))
    lines = [
        {
            "text": text,
            "confidence": 0.9,
            "polygon": [
                [12, 12 + 36 * n],
                [198, 12 + 36 * n],
                [198, 32 + 36 * n],
                [12, 32 + 36 * n],
            ],
        }
        for n, text in enumerate(("First line", "Secoud line", f"Of {name}"))
    ]
    result = PageResultFactory(job=OcrJobFactory(document=document), lines=lines)
    review = review_begin(result=result)
    line_edit(review=review, user=owner, line_id="2", text="Second line", version=review.version)
    review.refresh_from_db()
    if accept:
        review_accept(review=review, user=owner, version=review.version)
    review.refresh_from_db()
    return review


def made(owner: User, make: str, **options: Any) -> DatasetVersion:
    job = services.dataset_from_reviews(owner=owner, name="pages", make=make, **options)
    assert import_dataset(str(job.pk))["status"] == "succeeded", job.error
    job.refresh_from_db()
    assert job.version is not None
    return job.version


def rows(version: DatasetVersion) -> list[dict[str, Any]]:
    return [row for split in version.split_counts for row in version_rows(version, split)]


def test_lines_are_cut_from_accepted_pages(storage: Path, owner: User) -> None:
    reviews = [reviewed(owner, n) for n in range(4)]
    reviewed(owner, 9, accept=False)
    version = made(owner, "ocr", test=0.25, validation=0.25)
    assert (version.format, version.source) == ("ocr-lines", "4 reviewed pages")
    assert version.dataset.kind == "ocr"
    found = rows(version)
    assert len(found) == 12
    [second] = [row for row in found if row["meta"]["review"] == reviews[2].pk][1:2]
    assert second["text"] == "Second line"
    crop = Image.open(BytesIO(b64decode(second["image"])))
    assert crop.size == (186, 20)
    assert ImageStat.Stat(crop.convert("L")).mean == [SHADES[1] + 2]
    correction = reviews[2].corrections.get()
    assert second["meta"] == {
        "document": str(reviews[2].result.page.document_id),
        "page": 1,
        "job": str(reviews[2].result.job_id),
        "result": reviews[2].result_id,
        "review": reviews[2].pk,
        "review_version": reviews[2].version,
        "line": "2",
        "corrections": [correction.pk],
        "read": "Secoud line",
    }
    # Lines of a document stay together.
    for split in version.split_counts:
        part = list(version_rows(version, split))
        assert len(part) == 3 * len({row["meta"]["document"] for row in part}) > 0


def test_texts_and_their_corrections(storage: Path, owner: User) -> None:
    reviews = [reviewed(owner, n) for n in range(3)]
    version = made(owner, "correction", reviews=[review.pk for review in reviews[:2]])
    assert (version.dataset.kind, version.rows) == ("completion", 2)
    for row, review in zip(
        sorted(rows(version), key=lambda row: row["meta"]["review"]), reviews, strict=False
    ):
        assert row["prompt"] == review.result.text and "Secoud" in row["prompt"]
        assert row["completion"] == review.text and "Second" in row["completion"]
        assert row["meta"]["corrections"] == [review.corrections.get().pk]


def test_a_page_that_can_t_be_drawn_costs_its_rows_alone(storage: Path, owner: User) -> None:
    good, gone = (reviewed(owner, n) for n in range(2))
    document = gone.result.page.document
    document.file.storage.delete(document.file.name)
    version = made(owner, "ocr")
    assert version.state == "invalid" and version.rows == 3
    assert {row["meta"]["review"] for row in rows(version)} == {good.pk}
    [problem] = version.report["problems"]
    assert problem["code"] == "bad_image" and "gone from the storage" in str(problem["examples"])


def test_only_accepted_pages_that_one_may_see(storage: Path, owner: User) -> None:
    open_page = reviewed(owner, 9, accept=False)
    with pytest.raises(ApplicationError, match="None of these pages is accepted"):
        made(owner, "ocr", reviews=[open_page.pk])
    accepted = reviewed(owner)
    stranger = User.objects.create_user("lee")
    with pytest.raises(ApplicationError, match="None of these pages is accepted"):
        made(stranger, "ocr", reviews=[accepted.pk])
    with pytest.raises(ApplicationError, match="make"):
        made(owner, "poetry")


def test_by_the_api(storage: Path, owner: User) -> None:
    review = reviewed(owner)
    client = APIClient()
    client.force_authenticate(owner)
    given = {"name": "pages", "make": "ocr", "reviews": [review.pk]}
    answer = client.post("/api/v1/finetune/datasets/from_reviews", given, format="json")
    assert answer.status_code == 202, answer.content
    assert answer.json()["origin"] == "reviews"
    assert import_dataset(answer.json()["id"])["status"] == "succeeded"
    answer = client.post("/api/v1/finetune/datasets/from_reviews", {"name": "x"}, format="json")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "make")


def test_a_slanted_line_is_put_straight() -> None:
    page = Image.new("L", (200, 200), 255)
    corners = [(20, 60), (140, 100), (130, 130), (10, 90)]
    ImageDraw.Draw(page).polygon(corners, fill=0)
    straight = cut(page, corners)
    assert straight.size == (126, 32)
    inner = straight.crop((3, 3, 123, 29))
    assert ImageStat.Stat(inner).mean[0] < 4
    # Of more points, the box around them.
    assert cut(page, [*corners, (5, 80)]).size == (135, 70)


def test_a_page_that_was_uploaded_twice_is_in_one_split(storage: Path, owner: User) -> None:
    for _ in range(2):
        for page in range(5):
            reviewed(owner, page)
    version = made(owner, "ocr", test=0.3, validation=0.3)
    assert version.rows == 30
    assert {one["code"] for one in version.report["problems"]} == {"duplicate"}
