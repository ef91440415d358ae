"""The REST API: what goes in, what comes out, and what is refused with which words."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpResponse
from django.test import Client
from PIL import Image

from mlops.models import ApiKey, Job, User
from ocr.models import Document, OcrJob, Page
from ocr.samples import multi_page_pdf
from ocr.tasks import extract_text
from tests.ocr import pdfs

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("fake_engines")]

DOCUMENTS, JOBS = "/api/v1/documents", "/api/v1/ocr/jobs"


def upload(content: bytes, name: str = "scan.png") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content)


def other_client() -> Client:
    stranger = User.objects.create_user("lee", password="a-long-password")
    _key, token = ApiKey.objects.create(user=stranger)
    return Client(headers={"Authorization": f"Bearer {token}"})


def stored_files(settings) -> list[Path]:
    root = Path(settings.STORAGES["default"]["OPTIONS"]["location"])
    return [path for path in root.rglob("*") if path.is_file()]


class TestDocuments:
    def test_upload_list_fetch_delete(self, api: Client, png) -> None:
        content = png(form="TIFF", pages=3)
        answer = api.post(DOCUMENTS + "/", {"file": upload(content, "../../etc/a b.png")})
        assert answer.status_code == 201, answer.content
        made = answer.json()
        assert (made["name"], made["media_type"], made["pages"]) == ("a b.png", "image/tiff", 3)
        assert made["size"] == len(content) and len(made["sha256"]) == 64
        assert answer.headers["Location"] == made["url"]
        assert Page.objects.filter(document=made["id"]).count() == 3

        listed = api.get(DOCUMENTS).json()
        assert listed["count"] == 1 and listed["results"][0]["id"] == made["id"]
        assert api.get(DOCUMENTS, {"name__icontains": "nothing"}).json()["count"] == 0

        file = api.get(f"{DOCUMENTS}/{made['id']}/file")
        assert b"".join(file.streaming_content) == content
        assert file.headers["Content-Disposition"].startswith("attachment")
        assert file.headers["Content-Type"] == "application/octet-stream"

        assert api.delete(made["url"]).status_code == 204
        assert api.get(made["url"]).status_code == 404
        assert not Document.objects.exists()

    @pytest.mark.django_db(transaction=True)
    def test_delete_takes_jobs_and_file_along(self, api: Client, png, settings) -> None:
        before = len(stored_files(settings))
        job = api.post(JOBS, {"file": upload(png())}).json()
        extract_text(job["id"])
        assert len(stored_files(settings)) == before + 1
        assert api.delete(f"{DOCUMENTS}/{job['document']}").status_code == 204
        assert not Job.objects.exists()
        assert len(stored_files(settings)) == before

    def test_others_see_nothing_operators_see_all(self, api: Client, png) -> None:
        made = api.post(DOCUMENTS, {"file": upload(png())}).json()
        job = api.post(JOBS, {"document": made["id"]}).json()
        stranger = other_client()
        for path in (
            f"{DOCUMENTS}/{made['id']}",
            f"{DOCUMENTS}/{made['id']}/file",
            f"{JOBS}/{job['id']}",
            f"{JOBS}/{job['id']}/result",
        ):
            answer = stranger.get(path)
            assert answer.status_code == 404 and answer.json()["error"]["code"] == "not_found"
        assert stranger.delete(f"{DOCUMENTS}/{made['id']}").status_code == 404
        assert stranger.post(f"{JOBS}/{job['id']}/cancel").status_code == 404
        assert stranger.post(JOBS, {"document": made["id"]}).status_code == 404
        assert stranger.get(JOBS).json()["count"] == 0

        operator = User.objects.get(username="lee")
        operator.groups.add(operator.groups.model.objects.get(name="operator"))
        assert stranger.get(f"{DOCUMENTS}/{made['id']}").status_code == 200
        assert stranger.get(JOBS).json()["count"] == 1


def truncated_jpeg() -> bytes:
    out = io.BytesIO()
    Image.effect_noise((400, 300), 80).save(out, "JPEG")
    return out.getvalue()[:-2000]


def huge_png() -> bytes:
    out = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(out, "PNG")
    return out.getvalue()


BAD: dict[str, tuple[Callable[[], bytes], int, str]] = {
    "empty.png": (lambda: b"", 400, "empty_file"),
    "text.png": (lambda: b"Dear Sir or Madam,\n" * 50, 400, "unsupported_type"),
    "cut.jpg": (truncated_jpeg, 400, "damaged_file"),
    "locked.pdf": (lambda: pdfs.pdf_encrypted(user=b"u", owner=b"o"), 400, "encrypted_pdf"),
    "none.pdf": (lambda: pdfs.pdf(0), 400, "no_pages"),
    "huge.png": (huge_png, 400, "too_many_pixels"),
    "long.pdf": (lambda: pdfs.pdf(5000), 400, "too_many_pages"),
    "big.png": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(3 * 1024 * 1024), 413, "file_too_large"),
}


@pytest.mark.parametrize("path", [DOCUMENTS, JOBS, "/api/ocr/extract/sync"])
@pytest.mark.parametrize("name", BAD)
def test_bad_upload_is_refused_whole(name: str, path: str, api: Client, settings) -> None:
    make, status, code = BAD[name]
    settings.MAX_UPLOAD_BYTES = 2 * 1024 * 1024
    before = len(stored_files(settings))
    field = "image_file" if "sync" in path else "file"
    answer = api.post(path, {field: upload(make(), name)})
    body = answer.json()
    assert answer.status_code == status, body
    if "sync" in path:
        assert body["success"] is False and body["data"]["error"] == code
        message = body["message"]
    else:
        assert body["error"]["code"] == code
        message = body["error"]["message"]
    assert len(message) > 20 and "Traceback" not in message
    assert not Document.objects.exists() and not Job.objects.exists()
    assert len(stored_files(settings)) == before


@pytest.mark.parametrize(
    ("options", "code", "param"),
    [
        ({"engine": "no-such"}, "unknown_engine", "engine"),
        ({"language": "klingon"}, "unknown_language", "language"),
        ({"engine": "fake", "language": "ko"}, "unsupported_language", "language"),
        ({"language": "en+ko"}, "unsupported_language", "language"),
        ({"min_confidence": "1.5"}, "max_value", "min_confidence"),
        ({"dpi": "9000"}, "max_value", "dpi"),
        ({"priority": "12"}, "max_value", "priority"),
        ({"webhook_url": "https://10.0.0.7/"}, "webhook_url", "webhook_url"),
    ],
)
@pytest.mark.django_db(transaction=True)
def test_bad_option_keeps_no_document(
    options: dict[str, str], code: str, param: str, api: Client, png, settings
) -> None:
    before = len(stored_files(settings))
    answer = api.post(JOBS, {"file": upload(png()), **options})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == (code, param), error
    assert not Document.objects.exists() and not Job.objects.exists()
    assert len(stored_files(settings)) == before


class TestJobs:
    def submit(self, api: Client, content: bytes, **options: str) -> dict:
        answer = api.post(JOBS, {"file": upload(content), **options})
        assert answer.status_code == 202, answer.content
        return answer.json()

    def test_document_or_file_not_both_not_neither(self, api: Client, png) -> None:
        for data in (
            {},
            {"file": upload(png()), "document": "6d4c6a0e-0000-4000-8000-000000000000"},
        ):
            answer = api.post(JOBS, data)
            assert answer.status_code == 400
            assert answer.json()["error"]["code"] == "document_or_file"

    def test_result_as_json_and_txt(self, api: Client, png) -> None:
        job = self.submit(api, png(80, form="TIFF", pages=2), min_confidence="0.6")
        early = api.get(f"{JOBS}/{job['id']}/result")
        assert early.status_code == 409 and early.json()["error"]["code"] == "not_finished"
        assert extract_text(job["id"]) == {"job": job["id"], "status": "succeeded"}
        now = api.get(job["url"]).json()
        assert now["progress"] == {"done": 2, "total": 2} and now["attempts"] == 1
        assert 0.3 < now["mean_confidence"] < 0.9

        body = api.get(now["result"]).json()
        assert body["text"] == "width 80\n\nfaint\n\fwidth 81\n\nfaint"
        page = body["pages"][1]
        assert (page["page"], page["width"], page["height"]) == (2, 81, 40)
        assert (page["engine"], page["model_version"], page["device"]) == (
            "fake",
            "fake-1",
            "cpu fake",
        )
        # The faint line is kept, and flagged.
        assert [line["low_confidence"] for line in page["lines"]] == [False, True]
        assert page["lines"][0]["polygon"] == [[1, 2], [30, 2], [30, 9], [1, 9]]

        text = api.get(now["result"], {"format": "txt"})
        assert text.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert text.content.decode() == body["text"] + "\n"
        assert api.get(now["result"], {"format": "docx"}).json()["error"]["code"] == (
            "unknown_format"
        )

    def test_missing_engine_is_said_on_the_job(self, api: Client, png) -> None:
        job = self.submit(api, png(), language="ko")
        extract_text(job["id"])
        error = api.get(job["url"]).json()["error"]
        assert error["code"] == "engine_unavailable"
        assert "requirements/ocr-paddle.txt" in error["message"]

    def test_file_that_is_gone_is_said_on_the_job(self, api: Client, png) -> None:
        job = self.submit(api, png())
        document = Document.objects.get(pk=job["document"])
        document.file.storage.delete(document.file.name)
        extract_text(job["id"])
        assert api.get(job["url"]).json()["error"]["code"] == "file_missing"

    def test_page_that_fails_leaves_the_others(self, api: Client, tmp_path, monkeypatch) -> None:
        from ocr import pages as pages_module

        multi_page_pdf(tmp_path / "three.pdf", 3)
        job = self.submit(api, (tmp_path / "three.pdf").read_bytes())
        render = pages_module.PageSource.render

        def broken(self, index: int):
            if index == 1:
                raise pages_module.BadPage("Page 2 of the PDF is damaged.")
            return render(self, index)

        monkeypatch.setattr(pages_module.PageSource, "render", broken)
        extract_text(job["id"])
        now = api.get(job["url"]).json()
        assert (now["status"], now["pages_failed"]) == ("failed", 1)
        assert now["error"]["code"] == "pages_failed" and "1 of 3 pages" in now["error"]["message"]
        result = api.get(now["result"]).json()
        assert [bool(page["text"]) for page in result["pages"]] == [True, False, True]

        monkeypatch.undo()
        kept = OcrJob.objects.get(pk=job["id"]).results.get(page__number=1).pk
        assert api.post(f"{JOBS}/{job['id']}/retry").status_code == 202
        extract_text(job["id"])
        now = api.get(job["url"]).json()
        assert (now["status"], now["error"], now["pages_failed"]) == ("succeeded", None, 0)
        assert OcrJob.objects.get(pk=job["id"]).results.get(page__number=1).pk == kept

    def test_idempotency_key(self, api: Client, png) -> None:
        def send(content: bytes, key: str, **options: str) -> HttpResponse:
            data = {"file": upload(content), **options}
            return api.post(JOBS, data, headers={"Idempotency-Key": key})

        first, again = send(png(), "k-1"), send(png(), "k-1")
        assert (first.status_code, again.status_code) == (202, 202)
        assert first.json()["id"] == again.json()["id"] and OcrJob.objects.count() == 1
        assert again.headers["Location"] == first.headers["Location"]
        assert "Idempotent-Replayed" not in first.headers
        assert again.headers["Idempotent-Replayed"] == "true"
        for other in (send(png(61), "k-1"), send(png(), "k-1", language="en")):
            assert other.status_code == 422
            assert other.json()["error"]["code"] == "idempotency_key_reused"
        assert send(b"no image", "k-2").status_code == 400
        # One that was refused can be sent again, mended.
        assert send(png(), "k-2").status_code == 202
        data = {"document": first.json()["document"]}
        by_json = [
            api.post(JOBS, data, "application/json", headers={"Idempotency-Key": "k-3"})
            for _ in range(2)
        ]
        assert by_json[0].json()["id"] == by_json[1].json()["id"]

    def test_filters_and_pages_of_the_list(self, api: Client, png) -> None:
        jobs = [self.submit(api, png(60 + n)) for n in range(3)]
        extract_text(jobs[0]["id"])
        done = api.get(JOBS, {"status": "succeeded"}).json()
        assert [job["id"] for job in done["results"]] == [jobs[0]["id"]]
        first = api.get(JOBS, {"page_size": 2}).json()
        assert first["count"] == 3 and len(first["results"]) == 2 and first["next"]
        assert api.get(JOBS, {"document": jobs[1]["document"]}).json()["count"] == 1


def test_schema_describes_the_api(api: Client) -> None:
    schema = api.get("/api/schema/", {"format": "json"}, headers={"Accept": "application/json"})
    assert schema.status_code == 200
    paths = schema.json()["paths"]
    for path in ("/api/v1/documents/", "/api/v1/ocr/jobs/", "/api/v1/ocr/jobs/{id}/cancel"):
        assert any(known.rstrip("/") == path.rstrip("/") for known in paths), sorted(paths)
