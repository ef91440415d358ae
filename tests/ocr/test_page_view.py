"""What browsers are shown of a page that was turned: its boxes lie on the words."""

from __future__ import annotations

import io

import pytest
from django.test import Client
from django.urls import reverse
from PIL import Image

from mlops.models import User
from ocr.models import OcrJob
from ocr.tasks import extract_text
from tests.ocr.paper import ENGLISH, paper

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def turned_job(api: Client) -> OcrJob:
    """A job that has read a page lying on its side."""
    content = io.BytesIO()
    paper(ENGLISH).turned(90).image.save(content, "PNG")
    content.seek(0)
    content.name = "side.png"
    made = api.post("/api/v1/ocr/jobs", {"file": content, "language": "en"}).json()
    extract_text(made["id"])
    return OcrJob.objects.get(pk=made["id"])


def dark(image: Image.Image, polygon: list[list[float]]) -> bool:
    (left, top), _, (right, bottom), _ = polygon
    return image.convert("L").crop((left, top, right, bottom)).getextrema()[0] < 90


def test_the_result_says_how_the_page_was_turned(api: Client, turned_job: OcrJob) -> None:
    page = api.get(f"/api/v1/ocr/jobs/{turned_job.pk}/result").json()["pages"][0]
    assert page["rotation"] == 270
    assert page["note"] == "The page was turned by 270 degrees to stand upright."
    assert page["width"] < page["height"]
    assert [line["text"] for line in page["lines"]] == ENGLISH
    url = f"/api/v1/documents/{turned_job.document_id}/pages/1/image"
    shown = api.get(url, {"rotation": page["rotation"]})
    image = Image.open(io.BytesIO(shown.content))
    assert image.size == (page["width"], page["height"])
    assert all(dark(image, line["polygon"]) for line in page["lines"])
    as_it_came = api.get(url)
    assert Image.open(io.BytesIO(as_it_came.content)).size == image.size[::-1]
    assert as_it_came.headers["ETag"] != shown.headers["ETag"]


@pytest.mark.parametrize("rotation", ["45", "-90", "360", "x"])
def test_only_quarter_turns_are_taken(api: Client, turned_job: OcrJob, rotation: str) -> None:
    url = f"/api/v1/documents/{turned_job.document_id}/pages/1/image"
    answer = api.get(url, {"rotation": rotation})
    assert answer.status_code == 400
    assert "0, 90, 180, 270" in answer.json()["error"]["message"]


def test_the_viewer_and_the_gallery_show_it_upright(
    client: Client, user: User, turned_job: OcrJob
) -> None:
    user.is_staff = user.is_superuser = True
    user.save()
    client.force_login(user)
    viewer = client.get(reverse("admin:ocr_viewer", args=[turned_job.pk, 1]))
    assert "270° clockwise" in viewer.content.decode()
    image = client.get(reverse("admin:ocr_page_image", args=[turned_job.pk, 1]))
    result = turned_job.results.get()
    assert Image.open(io.BytesIO(image.content)).size == (result.width, result.height)
    job_page = client.get(reverse("admin:ocr_ocrjob_change", args=[turned_job.pk]))
    assert "max_side=320&amp;rotation=270" in job_page.content.decode()
