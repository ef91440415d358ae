"""The console's pages of documents and OCR jobs: who sees what, and what the buttons do."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from PIL import Image

from mlops.models import User
from ocr.models import Document, OcrBatch, OcrJob
from ocr.tasks import read_batch
from tests.factories import (
    DocumentFactory,
    OcrJobFactory,
    PageResultFactory,
    StaffFactory,
    UserFactory,
    png,
)

pytestmark = pytest.mark.django_db

UPLOAD = reverse("admin:ocr_document_add")


@pytest.fixture
def annotator() -> User:
    return StaffFactory(role="annotator")


@pytest.fixture
def console(client: Client, annotator: User) -> Client:
    client.force_login(annotator)
    return client


@pytest.fixture
def operator(annotator: User) -> Client:
    client = Client()
    client.force_login(StaffFactory(role="operator"))
    return client


def upload(name: str, content: bytes) -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content)


def messages(response: object) -> str:
    return " | ".join(str(message) for message in response.context["messages"])


# -- upload -----------------------------------------------------------------------------------


def test_several_files_are_stored_and_queued(console: Client, annotator: User) -> None:
    files = [upload("one.png", png(shade=1)), upload("two.png", png(shade=2))]
    sent = {"files": files, "run_ocr": "on", "engine": "rapidocr", "languages": ["en"]}
    answer = console.post(UPLOAD, sent, follow=True)
    batch = OcrBatch.objects.get(owner=annotator)
    assert answer.redirect_chain[-1][0] == reverse("admin:ocr_ocrbatch_change", args=[batch.pk])
    assert "2 documents stored and queued" in messages(answer)
    stored = Document.objects.filter(owner=annotator)
    assert {document.name for document in stored} == {"one.png", "two.png"}
    assert {document.source for document in stored} == {Document.Source.CONSOLE}
    read_batch(str(batch.pk))
    jobs = OcrJob.objects.filter(owner=annotator, parent=batch)
    assert {(job.engine, job.language, job.status) for job in jobs} == {
        ("rapidocr", "en", "queued")
    }
    assert len(jobs) == 2
    page = console.get(reverse("admin:ocr_ocrbatch_change", args=[batch.pk])).content.decode()
    assert "one.png" in page and "results.zip" in page


def test_upload_without_ocr_makes_no_job(console: Client) -> None:
    console.post(UPLOAD, {"files": [upload("one.png", png())]})
    assert Document.objects.count() == 1 and not OcrJob.objects.exists()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(b"not an image", "none of the accepted types"), (b"", "empty"), (png()[:60], "damaged")],
)
def test_bad_upload_is_refused_beside_its_name(
    console: Client, content: bytes, complaint: str
) -> None:
    answer = console.post(UPLOAD, {"files": [upload("letter.png", content)], "run_ocr": "on"})
    assert answer.status_code == 200
    [(name, message)] = answer.context["refused"]
    assert name == "letter.png" and complaint in message
    assert "letter.png" in answer.content.decode()
    assert not Document.objects.exists() and not OcrJob.objects.exists()


def test_bad_file_keeps_no_good_one_away(console: Client) -> None:
    files = [upload("bad.pdf", b"%PDF-1.4 nothing"), upload("good.png", png())]
    answer = console.post(UPLOAD, {"files": files})
    assert [name for name, _message in answer.context["refused"]] == ["bad.pdf"]
    assert "good.png stored" in messages(answer)
    assert Document.objects.get().name == "good.png"


def test_language_no_engine_reads_is_the_fields_error(console: Client) -> None:
    sent = {"files": [upload("one.png", png())], "run_ocr": "on", "engine": "rapidocr"}
    answer = console.post(UPLOAD, sent | {"languages": ["ko"]})
    assert "does not read" in answer.context["form"].errors["languages"][0]
    assert not Document.objects.exists()


def test_nothing_chosen(console: Client) -> None:
    assert "files" in console.post(UPLOAD, {}).context["form"].errors


def test_upload_needs_the_right(client: Client) -> None:
    client.force_login(StaffFactory(role="client"))
    assert client.post(UPLOAD, {"files": [upload("one.png", png())]}).status_code == 403


# -- documents --------------------------------------------------------------------------------


def test_run_ocr_asks_and_then_makes_jobs(console: Client, annotator: User) -> None:
    mine, other = DocumentFactory(owner=annotator), DocumentFactory()
    chosen = {"action": "run_ocr", "_selected_action": [mine.pk, other.pk]}
    asked = console.post(reverse("admin:ocr_document_changelist"), chosen)
    assert list(asked.context["documents"]) == [mine]
    sent = {"document": [mine.pk, other.pk], "engine": "rapidocr", "languages": ["en"]}
    done = console.post(reverse("admin:ocr_document_run"), sent, follow=True)
    assert "1 OCR job queued" in messages(done)
    job = OcrJob.objects.get()
    assert (job.document, job.owner) == (mine, annotator)
    assert (job.engine, job.language) == ("rapidocr", "en")
    assert job.min_confidence == 0.5 and job.progress_total == 1


def test_run_ocr_of_an_operator_is_the_owners(operator: Client, annotator: User) -> None:
    document = DocumentFactory(owner=annotator)
    operator.post(reverse("admin:ocr_document_run"), {"document": [document.pk]})
    assert OcrJob.objects.get().owner == annotator


def test_run_ocr_without_documents(console: Client) -> None:
    url = reverse("admin:ocr_document_run")
    assert "Choose the documents" in messages(console.get(f"{url}?document=x", follow=True))


def test_lists_show_ones_own(console: Client, operator: Client, annotator: User) -> None:
    job, other = OcrJobFactory(document__owner=annotator), OcrJobFactory()
    for page, mine, theirs in (
        ("ocr_ocrjob", job.pk, other.pk),
        ("ocr_document", job.document_id, other.document_id),
    ):
        url = reverse(f"admin:{page}_changelist")
        seen = {row.pk for row in console.get(url).context["cl"].queryset}
        assert seen == {mine}
        assert {row.pk for row in operator.get(url).context["cl"].queryset} == {mine, theirs}
        change = reverse(f"admin:{page}_change", args=[mine])
        assert console.get(change).status_code == 200
        assert console.get(reverse(f"admin:{page}_change", args=[theirs])).status_code == 302


def test_delete_goes_by_the_service(
    console: Client, annotator: User, django_capture_on_commit_callbacks: Callable
) -> None:
    one, two = (PageResultFactory(job__document__owner=annotator).job.document for _ in "ab")
    storage = one.file.storage
    with django_capture_on_commit_callbacks(execute=True):
        url = reverse("admin:ocr_document_delete", args=[one.pk])
        assert console.post(url, {"post": "yes"}).status_code == 302
        chosen = {"action": "delete_selected", "_selected_action": [two.pk], "post": "yes"}
        console.post(reverse("admin:ocr_document_changelist"), chosen)
    assert not Document.objects.exists() and not OcrJob.objects.exists()
    assert not any(storage.exists(document.file.name) for document in (one, two))


# -- jobs -------------------------------------------------------------------------------------


def act(client: Client, job: OcrJob, name: str) -> str:
    url = reverse("admin:ocr_ocrjob_act", args=[job.pk, name])
    return messages(client.post(url, follow=True))


def test_cancel_and_retry(console: Client, annotator: User) -> None:
    job = OcrJobFactory(document__owner=annotator)
    assert "1 OCR job asked to stop" in act(console, job, "cancel")
    job.refresh_from_db()
    assert job.status == OcrJob.Status.CANCELLED
    assert "already ended" in act(console, job, "cancel")
    PageResultFactory(job=job, lines=[], error="damaged")
    assert "1 OCR job queued again" in act(console, job, "retry")
    job.refresh_from_db()
    assert job.status == OcrJob.Status.QUEUED and not job.results.exists()
    assert "Only a failed or cancelled job" in act(console, job, "retry")


def test_retry_from_the_list_of_all_jobs_is_that_of_its_kind(
    operator: Client, annotator: User
) -> None:
    job = OcrJobFactory(document__owner=annotator, status=OcrJob.Status.FAILED)
    PageResultFactory(job=job, lines=[], error="damaged")
    chosen = {"action": "retry_selected", "_selected_action": [job.pk]}
    answer = operator.post(reverse("admin:mlops_job_changelist"), chosen, follow=True)
    assert "1 job queued again" in messages(answer)
    assert not job.results.exists()


def test_buttons_need_a_post_and_the_right_job(console: Client, operator: Client) -> None:
    job = OcrJobFactory()
    url = reverse("admin:ocr_ocrjob_act", args=[job.pk, "cancel"])
    assert console.get(url).status_code == 405
    assert console.post(url).status_code == 404
    assert operator.post(url).status_code == 302
    csrf = Client(enforce_csrf_checks=True)
    csrf.force_login(StaffFactory(role="operator"))
    assert csrf.post(url).status_code == 403


def test_rows_are_never_edited(operator: Client, annotator: User) -> None:
    job = OcrJobFactory(document__owner=annotator)
    for page in ("ocr_ocrjob", "mlops_job"):
        assert operator.get(reverse(f"admin:{page}_add")).status_code == 403
        change = reverse(f"admin:{page}_change", args=[job.pk])
        assert operator.post(change, {"status": "succeeded"}).status_code == 403


def test_progress_is_that_of_ones_own(console: Client, annotator: User) -> None:
    job = OcrJobFactory(
        document__owner=annotator, status=OcrJob.Status.RUNNING, progress_done=1, progress_total=3
    )
    other = OcrJobFactory()
    url = reverse("admin:ocr_ocrjob_progress")
    cells = console.get(url, {"ids": f"{job.pk},{other.pk},nonsense"}).json()["cells"]
    assert list(cells) == [str(job.pk)]
    assert "1 / 3" in cells[str(job.pk)]["progress"]
    assert "data-source" in cells[str(job.pk)]["status_label"]
    OcrJob.objects.filter(pk=job.pk).update(status=OcrJob.Status.SUCCEEDED)
    ended = console.get(url, {"ids": str(job.pk)}).json()["cells"]
    assert "data-source" not in ended[str(job.pk)]["status_label"]


def test_traceback_stands_apart_from_the_error(console: Client, annotator: User) -> None:
    job = OcrJobFactory(
        document__owner=annotator,
        status=OcrJob.Status.FAILED,
        error="Broken.",
        traceback="line <1>",
    )
    html = console.get(reverse("admin:ocr_ocrjob_change", args=[job.pk])).content.decode()
    assert '<div class="job-error">Broken.</div>' in html
    assert '<pre class="job-traceback">line &lt;1&gt;</pre>' in html


# -- pages ------------------------------------------------------------------------------------


def test_viewer_shows_each_line_and_its_box(console: Client, annotator: User) -> None:
    result = PageResultFactory(job__document__owner=annotator, note="<b>why</b>")
    answer = console.get(reverse("admin:ocr_viewer", args=[result.job_id, 1]))
    html = answer.content.decode()
    assert answer.status_code == 200
    assert html.count("<polygon") == len(result.lines) == 2
    assert 'viewBox="0 0 240 120"' in html and 'points="10.0,10.0 200.0,10.0' in html
    assert [line["level"] for line in answer.context["lines"]] == ["high", "low"]
    assert "&lt;b&gt;why" in html
    assert answer.context["previous_url"] is answer.context["next_url"] is None


def test_viewer_of_a_page_not_read_or_failed(console: Client, annotator: User) -> None:
    job = OcrJobFactory(document__owner=annotator)
    url = reverse("admin:ocr_viewer", args=[job.pk, 1])
    assert "not been read yet" in console.get(url).content.decode()
    PageResultFactory(job=job, lines=[], width=0, height=0, error="Page 1 is damaged.")
    assert "Page 1 is damaged." in console.get(url).content.decode()


@pytest.mark.parametrize("view", ["ocr_viewer", "ocr_page_image"])
def test_somebody_elses_page_is_not_found(view: str, console: Client, operator: Client) -> None:
    result = PageResultFactory()
    url = reverse(f"admin:{view}", args=[result.job_id, 1])
    assert console.get(url).status_code == 404
    assert operator.get(url).status_code == 200
    assert operator.get(reverse(f"admin:{view}", args=[result.job_id, 2])).status_code == 404
    assert Client().get(url).status_code == 302


def test_page_image_is_a_jpeg_of_the_results_size(console: Client, annotator: User) -> None:
    result = PageResultFactory(job__document__owner=annotator)
    url = reverse("admin:ocr_page_image", args=[result.job_id, 1])
    answer = console.get(url)
    assert answer["Content-Type"] == "image/jpeg" and "private" in answer["Cache-Control"]
    image = Image.open(BytesIO(answer.content))
    assert image.format == "JPEG" and image.size == (result.width, result.height)
    assert console.get(url, headers={"If-None-Match": answer["ETag"]}).status_code == 304
    small = Image.open(BytesIO(console.get(url, {"max_side": 60}).content))
    assert small.size == (60, 30)
    for wrong in ("0", "31", "5000", "-1", "many"):
        assert console.get(url, {"max_side": wrong}).status_code == 400


def test_pdf_page_is_drawn_at_the_resolution_it_was_read_at(
    console: Client, annotator: User
) -> None:
    pdf = BytesIO()
    Image.new("L", (144, 72), 255).save(pdf, "PDF", resolution=72)
    document = DocumentFactory(owner=annotator, content=pdf.getvalue(), name="two inches.pdf")
    result = PageResultFactory(job=OcrJobFactory(document=document, dpi=300), dpi=100)
    url = reverse("admin:ocr_page_image", args=[result.job_id, 1])
    assert Image.open(BytesIO(console.get(url).content)).size == (200, 100)


def test_page_image_of_a_lost_file(console: Client, annotator: User) -> None:
    document = DocumentFactory(owner=annotator)
    document.file.storage.delete(document.file.name)
    url = reverse("admin:ocr_document_page_image", args=[document.pk, 1])
    answer = console.get(url)
    assert answer.status_code == 404 and "Upload it again" in answer.content.decode()


def test_page_image_by_the_api(client: Client) -> None:
    document = DocumentFactory()
    client.force_login(document.owner)
    url = reverse("document-page-image", args=[document.pk, 1])
    answer = client.get(url, {"max_side": 120})
    assert answer["Content-Type"] == "image/jpeg"
    assert Image.open(BytesIO(answer.content)).size == (120, 60)
    missing = client.get(reverse("document-page-image", args=[document.pk, 9]))
    assert missing.status_code == 404 and missing.json()["error"]["code"] == "not_found"
    client.force_login(UserFactory())
    assert client.get(url).status_code == 404
