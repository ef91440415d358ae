"""Korean, and Korean with English in it, come out right: in the reader, by API and by command."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.db import connections
from django.test import Client
from PIL import Image

from mlops.engines import EngineCache
from mlops.models import Job
from ocr.models import OcrJob
from ocr.reader import ReadRequest, read_image
from ocr.samples import Sample, render_samples
from ocr.tasks import extract_text
from tests.ocr.paper import ENGLISH, KOREAN, MIXED, error_rate, hangul_font, paper

JOBS, SYNC = "/api/v1/ocr/jobs", "/api/ocr/extract/sync"
FACES = ("NanumGothic.ttf", "NanumBarunGothic.ttf", "NanumMyeongjo.ttf")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    hangul_font()
    samples = render_samples(tmp_path_factory.mktemp("samples"))
    return next(sample for sample in samples if sample.language == "ko")


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("lines", [KOREAN, MIXED], ids=["korean", "mixed"])
@pytest.mark.parametrize("size", [22, 40])
def test_faces_and_sizes(real_engines: EngineCache, face: str, lines: list[str], size: int) -> None:
    font = hangul_font().with_name(face)
    if not font.is_file():
        pytest.skip(f"{face} is not installed: apt-get install fonts-nanum")
    request = ReadRequest("auto", ("ko",), "rapidocr")
    outcome = read_image(paper(lines, size=size, font=font), request, real_engines)
    assert outcome.engine == "tesseract"
    assert error_rate(outcome.text, lines) < 0.02


@pytest.mark.parametrize("language", [("ko",), ("ko", "en"), ("auto",)])
def test_paragraphs_of_both_languages(real_engines: EngineCache, language: tuple[str, ...]) -> None:
    lines = [*KOREAN, *ENGLISH, *MIXED]
    outcome = read_image(paper(lines), ReadRequest("auto", language, "rapidocr"), real_engines)
    assert error_rate(outcome.text, lines) < 0.02


@contextmanager
def worker() -> Iterator[None]:
    """Reads what is queued, in a thread of its own."""
    stop = threading.Event()

    def work() -> None:
        try:
            while not stop.wait(0.05):
                for job in OcrJob.objects.filter(status=Job.Status.QUEUED):
                    extract_text(str(job.pk))
        finally:
            connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def upload(image: Image.Image) -> SimpleUploadedFile:
    content = BytesIO()
    image.save(content, "PNG")
    return SimpleUploadedFile("page.png", content.getvalue())


@pytest.mark.django_db(transaction=True)
def test_a_page_by_job(api: Client, page: Sample) -> None:
    with page.path.open("rb") as file:
        job = api.post(JOBS, {"file": file, "language": "korean"}).json()
    extract_text(job["id"])
    text = api.get(f"{JOBS}/{job['id']}/result", {"format": "txt"}).content.decode()
    assert error_rate(text, page.truth[0].split("\n")) < 0.02


@pytest.mark.django_db(transaction=True)
def test_a_turned_page_by_the_call_that_waits(api: Client) -> None:
    """Its `use_angle_cls`, on by default, puts pages upright."""
    head_down = paper(KOREAN).turned(180).image
    with worker():
        given, told_not_to = (
            api.post(SYNC, {"image_file": upload(head_down), **more}).json()
            for more in ({}, {"use_angle_cls": "false"})
        )
    assert given["success"] and told_not_to["success"]
    assert error_rate(given["data"]["full_text"], KOREAN) < 0.02
    assert error_rate(told_not_to["data"]["full_text"], KOREAN) > 0.5


@pytest.mark.django_db(transaction=True)
def test_a_page_by_command(page: Sample, tmp_path: Path, settings) -> None:
    settings.MLFLOW_TRACKING_URI = "none"
    call_command(
        *("ocr_batch", str(page.path), "--out", str(tmp_path), "--language", "korean"),
        *("--formats", "txt", "--workers", "1"),
    )
    text = (tmp_path / f"{page.path.stem}.txt").read_text()
    assert error_rate(text, page.truth[0].split("\n")) < 0.02
