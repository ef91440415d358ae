"""Extractions by the API: asked for, waited for, corrected, exported; only what one may see."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from llm import held, tasks
from llm.models import ExtractionBatch, ExtractionJob, ExtractionTemplate, LanguageModel, Usage
from mlops import engines, reconcile
from mlops.models import ApiKey, Job, User, WebhookDelivery
from ocr.models import Document, OcrBatch, OcrJob
from ocr.tasks import extract_text
from tests.factories import png
from tests.fakes import FAKE_ENGINES
from tests.llm.paper_rows import read_paper
from tests.llm.papers import KOREAN_RECEIPT, RECEIPT

pytestmark = pytest.mark.django_db

URL = "/api/v1/llm/extractions"
WIDTH = {"type": "object", "properties": {"width": {"type": "integer"}}, "required": ["width"]}


@pytest.fixture(autouse=True)
def fakes(settings) -> Iterator[None]:
    language = {"fake": {"BACKEND": "tests.fakes.FakeLanguageEngine"}}
    settings.ENGINES = {**FAKE_ENGINES, "llm": language}
    settings.OCR_DEFAULT_ENGINE = "fake"
    engines._caches.clear()
    yield
    held.holder.close()
    engines._caches.clear()


@pytest.fixture
def user() -> User:
    return User.objects.create(username="kim")


@pytest.fixture
def api(user: User) -> Client:
    return client_of(user)


def client_of(user: User) -> Client:
    _key, token = ApiKey.objects.create(user=user)
    return Client(headers={"Authorization": f"Bearer {token}"})


def post(client: Client, below: str, status: int, **data: Any) -> dict[str, Any]:
    answer = client.post(f"{URL}{below}", data, content_type="application/json")
    assert answer.status_code == status, answer.content
    return answer.json()


def work() -> None:
    """What workers do until nothing is due."""
    kinds = {
        OcrJob.KIND: extract_text,
        ExtractionJob.KIND: tasks.extract_values,
        ExtractionBatch.KIND: tasks.extract_batch,
    }
    while job := Job.objects.due().order_by("created_at").first():
        kinds[job.kind](str(job.pk))


def extracted(client: Client, **data: Any) -> dict[str, Any]:
    made = post(client, "", 202, **data)
    work()
    return client.get(made["url"]).json()


class TestOneDocument:
    def test_a_finished_reading_is_taken_over(self, api: Client, user: User) -> None:
        job = read_paper(owner=user)
        found = extracted(api, document=str(job.document_id), template="receipt")
        assert found["status"] == "succeeded", found["error"]
        assert found["ocr_job"] == str(job.pk) and OcrJob.objects.count() == 1
        assert found["values"] == {
            "company": "MILL STREET BAKERY SDN BHD",
            "date": "2025-03-12",
            "address": "12, JALAN KENANGA 3, TAMAN MELATI, 53100 KUALA LUMPUR",
            "total": 25.55,
            "tax": 1.45,
            "currency": "MYR",
        }
        assert found["problems"] == [] and found["model"] == "rules"
        total = found["evidence"]["/total"]
        assert (total["page"], total["text"], total["match"]) == (1, "25.55", "exact")
        left, top, right, _low = 420, 20 + 30 * 10, 420 + 12 * 5, 0
        assert total["polygons"][0][0] == [left, top] and total["polygons"][0][1] == [right, top]
        # Of a longer line only the words that say the value.
        assert found["evidence"]["/date"]["polygons"][0][0][0] > 20
        assert found["evidence"]["/address"]["lines"] == [2, 3]

    def test_a_document_that_was_not_read_is_read_first(self, api: Client) -> None:
        answer = api.post(
            URL, {"file": SimpleUploadedFile("a.png", png()), "schema": json.dumps(WIDTH)}
        )
        assert answer.status_code == 202, answer.content
        made = answer.json()
        reading = OcrJob.objects.get()
        assert made["ocr_job"] == str(reading.pk) and made["status"] == "queued"
        assert tasks.extract_values(made["id"])["status"] == "skipped"
        work()
        found = api.get(made["url"]).json()
        assert found["values"] == {"width": 240} and found["status"] == "succeeded"

    def test_a_reading_under_way_is_waited_for(self, api: Client, user: User) -> None:
        document = api.post("/api/v1/documents", {"file": SimpleUploadedFile("a.png", png())})
        key = document.json()["id"]
        reading = api.post("/api/v1/ocr/jobs", {"document": key}).json()
        made = post(api, "", 202, document=key, schema=WIDTH)
        assert made["ocr_job"] == reading["id"]
        work()
        assert api.get(made["url"]).json()["values"] == {"width": 240}
        assert OcrJob.objects.count() == 1

    def test_fails_with_its_reading_and_is_retried_with_it(
        self, api: Client, user: User, settings
    ) -> None:
        settings.OCR_DEFAULT_ENGINE = "missing"
        made = post(
            api,
            "",
            202,
            document=self.document(api),
            schema=WIDTH,
            ocr_engine="fake",
            language="en",
        )
        OcrJob.objects.update(engine="missing", language="ko")
        work()
        failed = api.get(made["url"]).json()
        assert failed["status"] == "failed" and failed["error"]["code"] == "earlier_job_failed"
        assert "requirements/ocr-paddle.txt" in failed["error"]["message"]
        OcrJob.objects.update(engine="fake", language="en")
        again = post(api, f"/{made['id']}/retry", 202)
        assert again["status"] == "queued"
        work()
        assert api.get(made["url"]).json()["values"] == {"width": 240}

    def test_from_an_ocr_job_of_ones_choice(self, api: Client, user: User) -> None:
        old = read_paper(KOREAN_RECEIPT, owner=user)
        read_paper(owner=user)
        found = extracted(api, ocr_job=str(old.pk), template="receipt")
        assert found["document"] == str(old.document_id)
        assert found["values"]["company"] == "한강서점"
        assert found["values"]["total"] == 22000

    def test_corrected_text_is_what_counts(self, api: Client, user: User) -> None:
        from ocr import services

        job = read_paper(owner=user)
        review = services.review_begin(result=job.results.get())
        line = next(line for line in review.lines if line["text"] == "25.55")
        services.line_edit(
            review=review, user=user, line_id=line["id"], text="26.60", version=review.version
        )
        found = extracted(api, document=str(job.document_id), template="receipt")
        assert found["values"]["total"] == 26.6

    def test_what_breaks_the_schema_is_said(self, api: Client, user: User) -> None:
        schema = {
            "type": "object",
            "properties": {
                "total": {"type": "number", "maximum": 10},
                "shoe_size": {"type": "string"},
            },
            "required": ["total", "shoe_size"],
        }
        job = read_paper(owner=user)
        found = extracted(api, document=str(job.document_id), schema=schema)
        assert found["status"] == "succeeded" and found["values"] == {"total": 25.55}
        paths = {one["path"]: one["message"] for one in found["problems"]}
        assert set(paths) == {"", "/total"} and "shoe_size" in paths[""]

    def test_fields_come_in_the_order_of_the_schema(self, api: Client, user: User) -> None:
        names = ["zip", "a_longer_name", "total", "b"]
        schema = {"type": "object", "properties": {name: {"type": "number"} for name in names}}
        paper = tuple(f"{name.replace('_', ' ')}: {n}.50" for n, name in enumerate(names))
        found = extracted(api, ocr_job=str(read_paper(paper, owner=user).pk), schema=schema)
        assert list(found["schema"]["properties"]) == list(found["values"]) == names

    def test_a_page_without_text_fails_clearly(self, api: Client, user: User) -> None:
        job = read_paper((), owner=user)
        found = extracted(api, document=str(job.document_id), template="receipt")
        assert (found["status"], found["error"]["code"]) == ("failed", "no_text")

    def document(self, api: Client) -> str:
        file = SimpleUploadedFile("a.png", png())
        return api.post("/api/v1/documents", {"file": file}).json()["id"]


class TestModel:
    @pytest.fixture
    def model(self) -> LanguageModel:
        return LanguageModel.objects.create(name="small", engine="fake", source="somewhere")

    def test_answers_by_the_schema(self, api: Client, user: User, model: LanguageModel) -> None:
        job = read_paper(("A word to the wise",), owner=user)
        schema = {
            "type": "object",
            "properties": {"saying": {"type": "string"}, "count": {"type": "integer"}},
            "required": ["saying", "count"],
        }
        found = extracted(api, document=str(job.document_id), schema=schema, model="small")
        assert found["status"] == "succeeded", found["error"]
        assert found["values"] == {"saying": "word", "count": 7} and found["model"] == "small"
        assert found["evidence"] == {
            "/saying": {
                **found["evidence"]["/saying"],
                "text": "word",
                "lines": [0],
                "match": "exact",
            }
        }
        assert found["usage"]["tries"] == 1 and found["usage"]["prompt_tokens"] > 20
        used = Usage.objects.get(owner=user, model=model)
        assert used.prompt_tokens == found["usage"]["prompt_tokens"]

    def test_the_default_is_a_setting(self, api: Client, user: User, model, settings) -> None:
        settings.LLM_EXTRACTION_MODEL = "small"
        job = read_paper(owner=user)
        assert post(api, "", 202, ocr_job=str(job.pk), template="receipt")["model"] == "small"
        ruled = post(api, "", 202, ocr_job=str(job.pk), template="receipt", model="rules")
        assert ruled["model"] == "rules"
        assert ExtractionJob.objects.get(model_name="small").queue == "llm"

    def test_an_unknown_one_is_refused_at_once(self, api: Client, user: User) -> None:
        job = read_paper(owner=user)
        answer = post(api, "", 404, ocr_job=str(job.pk), template="receipt", model="gone")
        assert answer["error"]["code"] == "model_not_found" and not ExtractionJob.objects.exists()


@pytest.mark.parametrize(
    ("asked", "status", "code", "said"),
    [
        ({}, 400, "schema_or_template", "Give either"),
        ({"schema": WIDTH, "template": "receipt"}, 400, "schema_or_template", "Give either"),
        ({"template": "nothing"}, 404, "template_not_found", "nothing"),
        ({"schema": {"type": "objekt"}}, 400, "invalid_schema", "objekt"),
        ({"schema": {"type": "object"}}, 400, "invalid_schema", "at least one property"),
        (
            {"schema": {"properties": {"a": {"$ref": "#/$defs/gone"}}}},
            400,
            "invalid_schema",
            "points to nothing",
        ),
        (
            {"schema": {"properties": {"a": {"$ref": "http://example.org/x"}}}},
            400,
            "invalid_schema",
            "out of the schema",
        ),
        ({"template": "receipt", "webhook_url": "http://localhost/x"}, 400, "webhook_url", ""),
    ],
)
def test_what_makes_no_sense_is_refused(
    api: Client, user: User, asked: dict, status: int, code: str, said: str
) -> None:
    job = read_paper(owner=user)
    answer = post(api, "", status, ocr_job=str(job.pk), **asked)
    assert answer["error"]["code"] == code and said in answer["error"]["message"]
    assert not ExtractionJob.objects.exists()


def test_a_refused_upload_leaves_nothing(api: Client) -> None:
    answer = api.post(URL, {"file": SimpleUploadedFile("a.png", png()), "template": "nothing"})
    assert answer.status_code == 404 and not Document.objects.exists()


def test_sent_twice_with_one_key_is_one_job(api: Client, user: User) -> None:
    job = read_paper(owner=user)
    data = {"ocr_job": str(job.pk), "template": "receipt"}
    headers = {"Idempotency-Key": "k-1"}
    first, again = (
        api.post(URL, data, content_type="application/json", headers=headers) for _ in range(2)
    )
    assert first.json()["id"] == again.json()["id"]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert ExtractionJob.objects.count() == 1


def test_webhook_tells_of_the_end(api: Client, user: User, settings) -> None:
    settings.WEBHOOK_ALLOW_NETWORKS = ["127.0.0.0/8"]
    settings.WEBHOOK_ALLOW_HTTP = True
    job = read_paper(owner=user)
    made = extracted(
        api, ocr_job=str(job.pk), template="receipt", webhook_url="http://127.0.0.1:9/told"
    )
    delivery = WebhookDelivery.objects.get()
    data = json.loads(delivery.body)["data"]
    assert data["kind"] == "llm.extract" and data["id"] == made["id"]
    assert api.get(data["path"]).json()["values"]["total"] == 25.55


def test_others_see_nothing_operators_see_all(api: Client, user: User) -> None:
    job = read_paper(owner=user)
    made = extracted(api, ocr_job=str(job.pk), template="receipt")
    stranger = client_of(User.objects.create(username="lee"))
    operator = User.objects.create(username="olga")
    operator.groups.add(Group.objects.get(name="operator"))
    operator = client_of(operator)
    for path in (f"{URL}/{made['id']}", f"{URL}/{made['id']}/"):
        assert stranger.get(path).status_code == 404 and operator.get(path).status_code == 200
    for act, data in (("retry", {}), ("accept", {"version": 0}), ("cancel", {}), ("reopen", {})):
        post(stranger, f"/{made['id']}/{act}", 404, **data)
    assert stranger.get(URL).json()["count"] == 0 and operator.get(URL).json()["count"] == 1
    assert b"MILL" not in b"".join(stranger.get(f"{URL}/export").streaming_content)
    post(stranger, "", 404, document=str(job.document_id), template="receipt")
    post(stranger, "", 404, ocr_job=str(job.pk), template="receipt")
    answer = post(stranger, "/batches", 404, documents=[str(job.document_id)], template="receipt")
    assert answer["error"]["code"] == "not_found"
    assert Client().get(URL).status_code == 401


class TestReview:
    @pytest.fixture
    def made(self, api: Client, user: User) -> dict[str, Any]:
        return extracted(api, ocr_job=str(read_paper(owner=user).pk), template="receipt")

    def test_a_value_is_corrected_and_the_values_accepted(self, api, user, made) -> None:
        path = f"/{made['id']}"
        one = post(api, f"{path}/correct", 200, version=0, path="/total", value="RM 30.00")
        assert one["values"]["total"] == 30 and one["extracted"]["total"] == 25.55
        assert one["evidence"]["/total"]["text"] == "30.00" and one["version"] == 1
        two = post(api, f"{path}/correct", 200, version=1, path="/tax", value="")
        assert two["values"]["tax"] is None and "/tax" not in two["evidence"]
        done = post(api, f"{path}/accept", 200, version=2)
        assert done["accepted_at"] and done["reviewer"] == "kim"
        refused = post(api, f"{path}/correct", 409, version=3, path="/total", value=1)
        assert refused["error"]["code"] == "accepted"
        assert refused["extraction"]["values"]["total"] == 30
        again = post(api, f"{path}/reopen", 200)
        assert again["accepted_at"] is None and again["values"]["total"] == 30

    def test_of_two_changes_of_one_version_one_goes_through(self, api, made) -> None:
        path = f"/{made['id']}/correct"
        post(api, path, 200, version=0, path="/total", value=1)
        refused = post(api, path, 409, version=0, path="/company", value="Other")
        assert refused["error"]["code"] == "extraction_changed"
        assert refused["extraction"]["version"] == 1
        post(api, f"/{made['id']}/accept", 409, version=0)

    @pytest.mark.parametrize(
        ("path", "value", "code"),
        [
            ("/total", "a lot", "invalid_value"),
            ("/date", "yesterday", "invalid_value"),
            ("/gone", "x", "unknown_field"),
            ("total", "x", "unknown_field"),
            ("/total/deeper", 1, "unknown_field"),
        ],
    )
    def test_what_the_schema_does_not_know_is_refused(self, api, made, path, value, code) -> None:
        answer = post(api, f"/{made['id']}/correct", 400, version=0, path=path, value=value)
        assert answer["error"]["code"] == code
        assert ExtractionJob.objects.get().corrected is None

    def test_nothing_to_review_before_there_are_values(self, api, user) -> None:
        made = post(api, "", 202, ocr_job=str(read_paper(owner=user).pk), template="receipt")
        answer = post(api, f"/{made['id']}/accept", 409, version=0)
        assert answer["error"]["code"] == "no_values"


class TestBatch:
    def test_many_documents_some_of_which_fail(self, api: Client, user: User) -> None:
        papers = [read_paper(owner=user), read_paper(KOREAN_RECEIPT, owner=user)]
        empty = read_paper((), owner=user)
        keys = [str(job.document_id) for job in (*papers, empty)]
        made = post(api, "/batches", 202, documents=keys, template="receipt", name="march")
        gone = Document.objects.get(pk=keys[1])
        gone.delete()
        work()
        batch = api.get(made["url"]).json()
        assert (batch["status"], batch["error"]["code"]) == ("failed", "documents_failed")
        assert "2 of 3 documents" in batch["error"]["message"]
        assert [one["document"] for one in batch["failures"]] == [keys[1]]
        assert batch["failures"][0]["code"] == "document_deleted"
        children = api.get(URL, {"batch": made["id"]}).json()["results"]
        assert {one["status"] for one in children} == {"succeeded", "failed"}
        assert api.get(URL, {"batch": made["id"], "status": "failed"}).json()["count"] == 1

    def test_a_retry_goes_over_the_failed_ones_alone(self, api: Client, user: User) -> None:
        fine, empty = read_paper(owner=user), read_paper((), owner=user)
        keys = [str(job.document_id) for job in (fine, empty)]
        made = post(api, "/batches", 202, documents=keys, template="receipt")
        work()
        first = ExtractionJob.objects.get(document=fine.document)
        result = empty.results.get()
        result.lines = fine.results.get().lines
        result.save()
        post(api, f"/batches/{made['id']}/retry", 202)
        work()
        assert api.get(made["url"]).json()["status"] == "succeeded"
        again = ExtractionJob.objects.get(document=fine.document)
        assert again.finished_at == first.finished_at and again.attempts == 1

    def test_all_documents_of_an_ocr_batch(self, api: Client, user: User) -> None:
        papers = [read_paper(owner=user) for _ in range(3)]
        ocr_batch = OcrBatch.objects.create(
            kind=OcrBatch.KIND, queue="ocr", owner=user, name="b", min_confidence=0.5, dpi=200
        )
        for job in papers:
            ocr_batch.items.create(name=job.document.name, document=job.document, job=job)
        asked = {"ocr_batch": str(ocr_batch.pk), "template": "receipt"}
        assert post(api, "/batches", 409, **asked)["error"]["code"] == "batch_not_ended"
        Job.objects.filter(pk=ocr_batch.pk).update(status="succeeded")
        made = post(api, "/batches", 202, **asked)
        work()
        batch = api.get(made["url"]).json()
        assert (batch["status"], batch["documents"]) == ("succeeded", 3)
        assert batch["progress"] == {"done": 3, "total": 3}

    def test_documents_are_read_first_and_a_cancel_stops_all(self, api: Client) -> None:
        files = [SimpleUploadedFile(f"{n}.png", png(width=60 + n)) for n in range(2)]
        files.append(SimpleUploadedFile("letter.png", b"no image"))
        answer = api.post(f"{URL}/batches", {"files": files, "schema": json.dumps(WIDTH)})
        assert answer.status_code == 202, answer.content
        batch = answer.json()
        assert [one["document"] for one in batch["failures"]] == ["letter.png"]
        assert tasks.extract_batch(batch["id"])["status"] == "waiting"
        assert ExtractionJob.objects.filter(after__isnull=False).count() == 2
        post(api, f"/batches/{batch['id']}/cancel", 202)
        assert set(ExtractionJob.objects.values_list("status", flat=True)) == {"cancelled"}
        assert api.get(batch["url"]).json()["status"] == "cancelled"

    def test_a_killed_worker_leaves_no_document_twice(self, api: Client, user: User) -> None:
        papers = [read_paper(owner=user) for _ in range(2)]
        keys = [str(job.document_id) for job in papers]
        made = post(api, "/batches", 202, documents=keys, template="receipt")
        row = ExtractionBatch.objects.lease(made["id"], worker="w:1")
        assert row is not None
        from llm.extraction_rows import SHARED
        from llm.extraction_run import _take_up

        _take_up(row, keys[0], {name: getattr(row, name) for name in SHARED})
        Job.objects.filter(pk=row.pk).update(lease_until="2020-01-01T00:00Z")
        reconcile.jobs_reap()
        work()
        assert ExtractionJob.objects.count() == 2
        assert api.get(made["url"]).json()["status"] == "succeeded"


class TestExport:
    def test_csv_and_jsonl_hold_what_the_filters_leave(self, api: Client, user: User) -> None:
        first = extracted(api, ocr_job=str(read_paper(owner=user).pk), template="receipt")
        paper = read_paper(("=SUM(A1) SDN BHD", *RECEIPT[2:]), owner=user, name="odd.png")
        extracted(api, ocr_job=str(paper.pk), template="receipt")
        post(api, f"/{first['id']}/correct", 200, version=0, path="/total", value=31)
        post(api, f"/{first['id']}/accept", 200, version=1)

        answer = api.get(f"{URL}/export")
        assert answer.headers["Content-Type"].startswith("text/csv")
        text = b"".join(answer.streaming_content).decode("utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text)))
        assert [row["total"] for row in rows] == ["31", "25.55"]
        assert rows[0]["company"] == "MILL STREET BAKERY SDN BHD"
        assert rows[1]["company"].startswith("'=SUM")

        accepted = api.get(f"{URL}/export", {"format": "jsonl", "accepted": "true"})
        lines = b"".join(accepted.streaming_content).decode().splitlines()
        assert [json.loads(line)["id"] for line in lines] == [first["id"]]
        assert json.loads(lines[0])["values"]["total"] == 31
        assert json.loads(lines[0])["corrected"] is True
        left = api.get(f"{URL}/export", {"format": "jsonl", "accepted": "false"})
        assert len(b"".join(left.streaming_content).splitlines()) == 1

    def test_an_unknown_format_is_refused(self, api: Client) -> None:
        answer = api.get(f"{URL}/export", {"format": "xlsx"})
        assert answer.status_code == 400 and "jsonl" in answer.json()["error"]["message"]


class TestTemplates:
    def test_built_in_ones_are_there_for_all_and_nobodys_to_change(self, api: Client) -> None:
        names = {one["name"] for one in api.get(f"{URL}/templates").json()["results"]}
        assert names == {"receipt", "invoice", "id-card"}
        answer = api.patch(
            f"{URL}/templates/receipt", {"title": "mine"}, content_type="application/json"
        )
        assert answer.status_code == 409
        assert api.delete(f"{URL}/templates/receipt").status_code == 409

    def test_ones_own_goes_before_everybodys(self, api: Client, user: User) -> None:
        made = post(api, "/templates", 201, name="receipt", schema=WIDTH)
        assert made["owner"] == "kim"
        post(api, "/templates", 409, name="receipt", schema=WIDTH)
        job = read_paper(("Width: 17 cm",), owner=user)
        assert extracted(api, ocr_job=str(job.pk), template="receipt")["values"] == {"width": 17}
        other = client_of(User.objects.create(username="lee"))
        assert other.get(f"{URL}/templates/receipt").json()["built_in"] is True
        assert api.delete(f"{URL}/templates/receipt").status_code == 204
        assert ExtractionTemplate.objects.filter(name="receipt").count() == 1

    def test_broken_ones_are_refused(self, api: Client) -> None:
        schema = {"type": "nothing"}
        assert post(api, "/templates", 400, name="a", schema=schema)["error"]["code"] == (
            "invalid_schema"
        )
        answer = post(api, "/templates", 400, name="a", schema=WIDTH, examples=[{"text": 1}])
        assert answer["error"]["code"] == "invalid_examples"
        post(api, "/templates", 400, name="a b", schema=WIDTH)
