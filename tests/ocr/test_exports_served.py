"""Where results are fetched: the API's answers, and the files of a batch."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from django.test import Client

from mlops.exceptions import JobFailed
from ocr import exports
from ocr.models import OcrJob
from ocr.outputs import Target, write_outputs
from tests.ocr.printed import line, made, printed, read_job

pytestmark = pytest.mark.django_db


class TestApi:
    @pytest.mark.parametrize(
        ("form", "media_type", "name"),
        [
            ("txt", "text/plain; charset=utf-8", "scan 1.txt"),
            ("json", "application/json", "scan 1.json"),
            ("md", "text/markdown; charset=utf-8", "scan 1.md"),
            ("hocr", "application/xhtml+xml", "scan 1.hocr"),
            ("alto", "application/xml", "scan 1.alto.xml"),
            ("page", "application/xml", "scan 1.page.xml"),
            ("pdf", "application/pdf", "scan 1.pdf"),
            ("tsv", "text/tab-separated-values; charset=utf-8", "scan 1.tsv"),
        ],
    )
    def test_media_type_and_name(
        self, form: str, media_type: str, name: str, api: Client, user
    ) -> None:
        job = self._job(user)
        answer = api.get(f"/api/v1/ocr/jobs/{job.pk}/result", {"format": form})
        assert answer.status_code == 200, answer.content
        assert answer.headers["Content-Type"] == media_type
        kind, _, rest = answer.headers["Content-Disposition"].partition(";")
        assert rest.strip() == f'filename="{name}"'
        assert kind == ("inline" if form in ("txt", "json") else "attachment")
        assert answer.content == made(job, form) or form == "pdf"

    def test_client_that_accepts_nothing_else_is_served(self, api: Client, user) -> None:
        answer = api.get(
            f"/api/v1/ocr/jobs/{self._job(user).pk}/result",
            {"format": "pdf"},
            headers={"Accept": "application/pdf"},
        )
        assert answer.status_code == 200 and answer.content.startswith(b"%PDF")

    def test_several_pages_of_page_xml_are_a_zip(self, api: Client, user) -> None:
        content = io.BytesIO()
        image = printed(["x"]).image
        image.save(content, "TIFF", save_all=True, append_images=[image])
        job = self._job(user, content.getvalue(), 2)
        answer = api.get(f"/api/v1/ocr/jobs/{job.pk}/result", {"format": "page"})
        assert answer.headers["Content-Type"] == "application/zip"
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            assert archive.namelist() == ["page_0001.xml", "page_0002.xml"]

    def test_unknown_format_names_the_known_ones(self, api: Client, user) -> None:
        answer = api.get(f"/api/v1/ocr/jobs/{self._job(user).pk}/result", {"format": "docx"})
        assert answer.status_code == 400
        assert "txt, json, md, hocr, alto, page, pdf, tsv" in answer.json()["error"]["message"]

    def test_pdf_of_a_document_whose_file_is_gone(self, api: Client, user) -> None:
        job = self._job(user)
        Path(job.document.file.path).unlink()
        url = f"/api/v1/ocr/jobs/{job.pk}/result"
        answer = api.get(url, {"format": "pdf"})
        assert answer.status_code == 404 and answer.json()["error"]["code"] == "file_missing"
        assert api.get(url, {"format": "txt"}).status_code == 200

    @pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
    def test_long_result_is_streamed(self, api: Client, user) -> None:
        """An asynchronous server, as ours are, gets it in pieces and never whole."""
        job = self._job(user)
        long = [line("word " * 50) for _ in range(5000)]
        job.results.update(lines=long, text="\n".join(one["text"] for one in long))
        answer = api.get(f"/api/v1/ocr/jobs/{job.pk}/result", {"format": "txt"})
        pieces = list(answer)
        assert answer.is_async and len(pieces) > 2
        assert b"".join(pieces) == made(job, "txt")
        assert answer.headers["Content-Length"] == str(len(b"".join(pieces)))

    def _job(self, user, content: bytes | None = None, pages: int = 1) -> OcrJob:
        page = printed(["Shelf mark"])
        one = {"lines": page.lines, "width": 700, "height": 400}
        job = read_job(content or page.bytes(), [one] * pages, name="scan 1.png")
        job.document.owner = job.owner = user
        job.document.save()
        job.save()
        return job


class TestOutputs:
    def test_each_format_has_its_file(self, tmp_path: Path) -> None:
        page = printed(["Shelf mark"])
        job = read_job(page.bytes(), [{"lines": page.lines, "width": 700, "height": 400}])
        target = Target(tmp_path / "a.png", tmp_path / "out" / "a")
        target.source.touch()
        assert not target.complete(exports.FORMATS)
        write_outputs(job, target, exports.FORMATS)
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
            f"a{form.suffix}" for form in exports.FORMATS.values()
        )
        assert target.complete(exports.FORMATS)

    def test_whole_or_not_at_all(self, tmp_path: Path) -> None:
        page = printed(["Shelf mark"])
        job = read_job(page.bytes(), [{"lines": page.lines, "width": 700, "height": 400}])
        Path(job.document.file.path).unlink()
        before = tmp_path / "a.pdf"
        before.write_text("an earlier one")
        with pytest.raises(JobFailed):
            write_outputs(job, Target(tmp_path / "a.png", tmp_path / "a"), ["txt", "pdf"])
        assert before.read_text() == "an earlier one"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pdf", "a.txt"]

    def test_source_is_never_written_over(self, tmp_path: Path) -> None:
        source = tmp_path / "a.pdf"
        source.touch()
        assert Target(source, tmp_path / "a").output(".pdf") == tmp_path / "a.ocr.pdf"
        assert Target(source, tmp_path / "a").output(".txt") == tmp_path / "a.txt"

    def test_document_none_of_which_was_read_has_no_outputs(self, tmp_path: Path) -> None:
        job = read_job(printed(["x"]).bytes(), [{"error": "no"}])
        write_outputs(job, Target(tmp_path / "a.png", tmp_path / "a"), ["txt"])
        assert not list(tmp_path.iterdir())
