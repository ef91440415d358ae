"""Batches: one job over many documents; what is shared among workers, and what isn't read twice."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone

from mlops import endings, engines
from mlops.jobs import JobContext
from mlops.models import ApiKey, Job, User
from ocr import runner, services
from ocr.models import Document, OcrBatch, OcrJob, PageClaim
from ocr.results_zip import zip_chunks
from ocr.samples import multi_page_pdf
from ocr.spread import SharedPages
from ocr.tasks import extract_text, help_pages, read_batch

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("fake_engines")]

BATCHES, JOBS = "/api/v1/ocr/batches", "/api/v1/ocr/jobs"


def upload(content: bytes, name: str = "scan.png") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content)


def work() -> None:
    """What workers do until nothing is queued."""
    tasks = {OcrBatch.KIND: read_batch, OcrJob.KIND: extract_text}
    while job := Job.objects.filter(status=Job.Status.QUEUED).first():
        tasks[job.kind](str(job.pk))


@pytest.fixture
def submit(api: Client) -> Callable[..., dict]:
    def send(**data: object) -> dict:
        answer = api.post(BATCHES, {"language": "en", **data})
        assert answer.status_code == 202, answer.content
        return answer.json()

    return send


class TestBatch:
    def test_uploads_and_documents_are_read_as_one(self, api: Client, png, submit) -> None:
        document = api.post("/api/v1/documents", {"file": upload(png(50), "old.png")}).json()
        batch = submit(
            name="march",
            documents=[document["id"]],
            files=[upload(png(60 + n, form="TIFF", pages=2), f"{n}.tiff") for n in range(2)],
        )
        assert batch["status"] == "queued" and batch["progress"] == {"done": 0, "total": 5}
        read_batch(batch["id"])
        now = api.get(batch["url"]).json()
        # It has done its part and waits, held by nobody.
        assert (now["status"], now["documents"]["queued"]) == ("running", 3)
        assert Job.objects.get(pk=batch["id"]).lease_until is None

        children = list(OcrJob.objects.filter(parent=batch["id"]).order_by("created_at"))
        extract_text(str(children[1].pk))
        endings.parents_repair()
        assert api.get(batch["url"]).json()["progress"] == {"done": 2, "total": 5}
        work()
        now = api.get(batch["url"]).json()
        assert (now["status"], now["error"]) == ("succeeded", None)
        assert now["progress"] == {"done": 5, "total": 5}
        assert now["documents"] == {
            **dict.fromkeys(("waiting", "refused", "queued", "running", "failed", "cancelled"), 0),
            "total": 3,
            "succeeded": 3,
        }
        assert api.get(f"{BATCHES}/{batch['id']}/failures").json() == {"failures": []}
        assert api.get(f"{JOBS}/{children[0].pk}").json()["batch"] == batch["id"]

    def test_results_as_a_zip(self, api: Client, png, submit) -> None:
        batch = submit(files=[upload(png(70), "a.png"), upload(png(71), "a.png")])
        work()
        stored = OcrBatch.objects.get(pk=batch["id"])
        archive = zipfile.ZipFile(io.BytesIO(b"".join(zip_chunks(stored, ["txt", "json"]))))
        assert archive.testzip() is None
        names = ["a.txt", "a.json", "a (2).txt", "a (2).json"]
        assert archive.namelist() == names
        assert archive.read("a.txt").decode().split() == ["width", "70", "faint"]
        assert json.loads(archive.read("a (2).json"))["text"].startswith("width 71")

        answer = api.get(f"{BATCHES}/{batch['id']}/results.zip", {"formats": "txt"})
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "application/zip"
        assert answer.headers["Content-Disposition"].startswith("attachment")
        refused = api.get(f"{BATCHES}/{batch['id']}/results.zip", {"formats": "txt,docx"})
        assert refused.status_code == 400 and refused.json()["error"]["code"] == "unknown_format"

    def test_some_fail_and_a_retry_reads_only_those(
        self, api: Client, png, submit, settings
    ) -> None:
        batch = submit(
            files=[upload(png(80), "good.png"), upload(b"no image", "bad.png"), upload(png(81))]
        )
        read_batch(batch["id"])
        good, lost = OcrJob.objects.filter(parent=batch["id"]).order_by("created_at")
        content = lost.document.file.open("rb").read()
        default_storage.delete(lost.document.file.name)
        work()
        now = api.get(batch["url"]).json()
        assert now["status"] == "failed" and now["error"]["code"] == "documents_failed"
        assert "2 of 3 documents" in now["error"]["message"]
        failures = api.get(f"{BATCHES}/{batch['id']}/failures").json()["failures"]
        assert [(one["name"], one["status"], one["code"]) for one in failures] == [
            ("bad.png", "refused", "unsupported_type"),
            ("scan.png", "failed", "file_missing"),
        ]
        archive = zipfile.ZipFile(
            io.BytesIO(b"".join(zip_chunks(OcrBatch.objects.get(pk=batch["id"]), ["txt"])))
        )
        assert archive.namelist() == ["good.txt", "failures.json"]

        default_storage.save(lost.document.file.name, ContentFile(content))
        kept = good.results.get().pk
        assert api.post(f"{BATCHES}/{batch['id']}/retry").status_code == 202
        work()
        now = api.get(batch["url"]).json()
        # The upload that was refused stays so.
        assert now["status"] == "failed" and "1 of 3 documents" in now["error"]["message"]
        assert good.results.get().pk == kept and lost.results.count() == 1

    def test_child_retried_on_its_own_reopens_the_batch(self, api: Client, png, submit) -> None:
        batch = submit(files=[upload(png(83))])
        read_batch(batch["id"])
        (child,) = OcrJob.objects.filter(parent=batch["id"])
        assert api.post(f"{JOBS}/{child.pk}/cancel").status_code == 202
        assert api.get(batch["url"]).json()["status"] == "failed"
        assert api.post(f"{JOBS}/{child.pk}/retry").status_code == 202
        assert api.get(batch["url"]).json()["status"] == "running"
        work()
        assert api.get(batch["url"]).json()["status"] == "succeeded"

    def test_cancel_stops_the_children(self, api: Client, png, submit) -> None:
        batch = submit(files=[upload(png(90 + n)) for n in range(3)])
        read_batch(batch["id"])
        first, *rest = OcrJob.objects.filter(parent=batch["id"]).order_by("created_at")
        OcrJob.objects.lease(first.pk, worker="w")
        assert api.post(f"{BATCHES}/{batch['id']}/cancel").status_code == 202
        now = api.get(batch["url"]).json()
        # Not cancelled until the one at work has stopped.
        assert now["status"] == "running" and now["documents"]["cancelled"] == 2
        first = OcrJob.objects.get(pk=first.pk)
        assert first.cancel_requested
        assert first.finish(Job.Status.CANCELLED, track=False)
        endings.announce(first)
        assert api.get(batch["url"]).json()["status"] == "cancelled"
        assert {Job.objects.get(pk=job.pk).status for job in rest} == {"cancelled"}

    def test_end_that_nobody_told_of_is_made_up_for(self, png, submit) -> None:
        """The worker of the last child dies right after it wrote the end."""
        batch = submit(files=[upload(png(95))])
        read_batch(batch["id"])
        (child,) = OcrJob.objects.filter(parent=batch["id"])
        held = OcrJob.objects.lease(child.pk, worker="w")
        assert held.finish(Job.Status.SUCCEEDED, track=False)
        assert Job.objects.get(pk=batch["id"]).status == "running"
        assert endings.endings_announce() == 1
        assert Job.objects.get(pk=batch["id"]).status == "succeeded"
        assert endings.endings_announce() == 0

    def test_others_documents_and_nothing_at_all(self, api: Client, png, submit) -> None:
        stranger = User.objects.create_user("lee", password="a-long-password")
        theirs = services.document_create(
            file=io.BytesIO(png()), name="x.png", owner=stranger, source="api"
        )
        answer = api.post(BATCHES, {"documents": [str(theirs.pk)]})
        assert answer.status_code == 404
        answer = api.post(BATCHES, {})
        assert answer.status_code == 400 and answer.json()["error"]["code"] == "no_documents"
        batch = submit(files=[upload(png())])
        _key, token = ApiKey.objects.create(user=stranger)
        client = Client(headers={"Authorization": f"Bearer {token}"})
        for what in ("", "/failures", "/results.zip"):
            assert client.get(f"{BATCHES}/{batch['id']}{what}").status_code == 404

    @pytest.mark.parametrize(
        "prefix", ["documents/", "inbox/", "inbox/lee/", "inbox/kim/../lee", "../inbox/kim", "/"]
    )
    def test_prefix_of_somebody_else_is_refused(self, prefix: str, api: Client) -> None:
        answer = api.post(BATCHES, {"prefix": prefix})
        assert answer.status_code == 403, answer.json()
        assert answer.json()["error"]["code"] == "prefix_not_allowed"

    def test_prefix_takes_in_what_lies_below(self, api: Client, png, submit) -> None:
        names = ["inbox/kim/2026/b.png", "inbox/kim/2026/deep/a.png", "inbox/kim/2026/notes.csv"]
        kept = [
            default_storage.save(name, ContentFile(png(100 + n))) for n, name in enumerate(names)
        ]
        try:
            batch = submit(prefix="inbox/kim/2026")
            work()
            now = api.get(batch["url"]).json()
            assert (now["status"], now["documents"]["succeeded"]) == ("succeeded", 2)
            listed = list(OcrBatch.objects.get(pk=batch["id"]).items.values_list("name", flat=True))
            assert listed == ["b.png", "deep/a.png"]
            empty = submit(prefix="inbox/kim/none")
            work()
            assert api.get(empty["url"]).json()["error"]["code"] == "no_documents"
        finally:
            for name in kept:
                default_storage.delete(name)


class TestReuse:
    def one(self, api: Client, content: bytes, **options: str) -> OcrJob:
        job = api.post(JOBS, {"file": upload(content), "language": "en", **options}).json()
        work()
        return OcrJob.objects.get(pk=job["id"])

    def test_same_content_and_options_are_read_once(self, api: Client, png) -> None:
        content = png(120, form="TIFF", pages=2)
        first = self.one(api, content)
        assert first.reused_from is None and first.engine_seconds > 0
        again = self.one(api, content, min_confidence="0.99")
        assert again.status == "succeeded" and again.reused_from == first
        assert again.engine_seconds == 0 and again.document_id != first.document_id
        texts = [list(job.results.values_list("text", "lines")) for job in (first, again)]
        assert texts[0] == texts[1] and len(texts[0]) == 2
        assert [result.page.document_id for result in again.results.all()] == [
            again.document_id
        ] * 2
        assert self.one(api, content, force="true").reused_from is None

    @pytest.mark.parametrize("options", [{"dpi": "99"}, {"language": "fr"}, {"rotate": "false"}])
    def test_other_options_are_read_anew(self, options: dict, api: Client, png) -> None:
        self.one(api, png(121))
        assert self.one(api, png(121), **options).reused_from is None

    def test_another_model_reads_anew(self, api: Client, png) -> None:
        self.one(api, png(122))
        engines.cache("ocr").get("fake").model_version = "fake-2"
        assert self.one(api, png(122)).reused_from is None

    def test_of_others_nothing_is_taken(self, api: Client, png) -> None:
        self.one(api, png(123))
        stranger = User.objects.create_user("lee", password="a-long-password")
        _key, token = ApiKey.objects.create(user=stranger)
        theirs = Client(headers={"Authorization": f"Bearer {token}"})
        assert self.one(theirs, png(123)).reused_from is None

    def test_pages_that_are_missing_there_are_read(self, api: Client, png) -> None:
        content = png(124, form="TIFF", pages=3)
        self.one(api, content, page_range="1-2")
        rest = self.one(api, content)
        assert rest.reused_from is not None
        assert [result.seconds > 0 for result in rest.results.order_by("page__number")] == [
            *(False, False, True)
        ]


class TestSpread:
    @pytest.fixture
    def job(self, tmp_path: Path, user: User, settings) -> OcrJob:
        settings.OCR_SPREAD_PAGES = 3
        multi_page_pdf(tmp_path / "long.pdf", 6)
        with (tmp_path / "long.pdf").open("rb") as file:
            document = services.document_create(
                file=file, name="long.pdf", owner=user, source=Document.Source.API
            )
        return services.ocr_job_create(document=document, owner=user, language="en", dpi=60)

    def numbers(self, job: OcrJob) -> list[int]:
        return list(job.results.order_by("page__number").values_list("page__number", flat=True))

    def test_without_a_helper_the_holder_reads_all(self, job: OcrJob) -> None:
        assert extract_text(str(job.pk))["status"] == "succeeded"
        assert self.numbers(job) == [1, 2, 3, 4, 5, 6]
        assert not PageClaim.objects.exists()

    def test_a_page_is_claimed_by_one(self, job: OcrJob) -> None:
        held = OcrJob.objects.lease(job.pk, worker="w")
        first, second = SharedPages(held), SharedPages(held)
        with first.claimed() as one, second.claimed() as other:
            assert one is not None and other is not None
            assert (one[0], other[0]) == (1, 2)

    def test_claim_of_a_lost_worker_runs_out(self, job: OcrJob) -> None:
        held = OcrJob.objects.lease(job.pk, worker="w")
        with SharedPages(held).claimed() as page:
            PageClaim.objects.update(until=timezone.now() - timedelta(seconds=1))
            with SharedPages(held).claimed() as again:
                assert again == page

    def test_helpers_read_and_the_holder_ends_it(self, job: OcrJob) -> None:
        held = OcrJob.objects.lease(job.pk, worker="w")
        help_pages(str(job.pk))
        assert self.numbers(job) == [1, 2, 3, 4, 5, 6]
        assert OcrJob.objects.get(pk=job.pk).status == "running"
        runner.run(held, JobContext(held))
        assert held.finish(Job.Status.SUCCEEDED, track=False)
        assert held.progress_done == 6

    def test_helper_leaves_when_a_job_is_queued(self, job: OcrJob, png) -> None:
        OcrJob.objects.lease(job.pk, worker="w")
        services.ocr_job_create(document=job.document, owner=job.owner, language="fr")
        help_pages(str(job.pk))
        assert self.numbers(job) == []

    @pytest.mark.parametrize("status", ["queued", "succeeded", "cancelled"])
    def test_nobody_helps_a_job_that_does_not_run(self, job: OcrJob, status: str) -> None:
        Job.objects.filter(pk=job.pk).update(status=status)
        help_pages(str(job.pk))
        assert self.numbers(job) == []

    def test_helper_stops_when_the_job_is_cancelled(self, job: OcrJob) -> None:
        OcrJob.objects.lease(job.pk, worker="w")
        Job.objects.filter(pk=job.pk).update(cancel_requested=True)
        help_pages(str(job.pk))
        assert self.numbers(job) == []
