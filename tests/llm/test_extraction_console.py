"""The console's pages of extractions: who sees what, and what a form refuses."""

from __future__ import annotations

import json
import re

import pytest
from django.contrib.auth.models import Group
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from llm import tasks
from llm.models import ExtractionBatch, ExtractionJob, ExtractionTemplate
from llm.services.extractions import extraction_submit
from mlops.models import User
from tests.factories import png
from tests.llm.paper_rows import read_paper

pytestmark = pytest.mark.django_db


def member(role: str, name: str) -> tuple[User, Client]:
    user = User.objects.create(username=name, is_staff=True)
    user.groups.add(Group.objects.get(name=role))
    client = Client()
    client.force_login(user)
    return user, client


def extracted(user: User) -> ExtractionJob:
    job = extraction_submit(owner=user, ocr_job=read_paper(owner=user), template="receipt")
    tasks.extract_values(str(job.pk))
    job.refresh_from_db()
    return job


def state_of(page: bytes, name: str) -> dict:
    found = re.search(rf'<script id="{name}" type="application/json">(.*?)</script>', page.decode())
    assert found
    return json.loads(found[1])


def test_values_with_their_fields_pages_and_neighbours() -> None:
    user, client = member("annotator", "minji")
    first, second = extracted(user), extracted(user)
    answer = client.get(reverse("admin:llm_extraction", args=[second.pk]))
    state, config = (
        state_of(answer.content, "extraction-state"),
        state_of(answer.content, "extraction-config"),
    )
    assert [field["path"] for field in state["fields"]] == [
        *("/company", "/date", "/address", "/total", "/tax", "/currency")
    ]
    assert state["pages"] == [{"number": 1, "width": 900, "height": 1200}]
    assert state["evidence"]["/total"]["page"] == 1 and config["may_change"] is True
    assert config["previous"] is None and str(first.pk) in config["next"]
    assert str(first.pk) in config["upcoming"]
    image = client.get(config["image"].replace("/0/", "/1/"))
    assert image.headers["Content-Type"] == "image/jpeg"


def test_others_see_nothing() -> None:
    owner, _client = member("annotator", "minji")
    job = extracted(owner)
    _other, stranger = member("annotator", "lee")
    _boss, operator = member("operator", "olga")
    values = reverse("admin:llm_extraction", args=[job.pk])
    assert stranger.get(values).status_code == 404 and operator.get(values).status_code == 200
    listed = reverse("admin:llm_extractionjob_changelist")
    assert b"receipt.png" not in stranger.get(listed).content
    assert b"receipt.png" in operator.get(listed).content
    nobody = User.objects.create(username="nobody", is_staff=True)
    client = Client()
    client.force_login(nobody)
    assert client.get(values).status_code == 403


def test_lists_and_pages_of_jobs_and_batches() -> None:
    user, client = member("annotator", "minji")
    job = extracted(user)
    batch = ExtractionBatch.objects.create(
        kind=ExtractionBatch.KIND,
        queue="ocr",
        owner=user,
        name="march",
        schema=job.schema,
        documents=[str(job.document_id)],
        failures=[{"document": "b.png", "code": "x", "message": "no image"}],
    )
    ExtractionJob.objects.filter(pk=job.pk).update(parent=batch)
    page = client.get(reverse("admin:llm_extractionjob_change", args=[job.pk]))
    assert page.status_code == 200 and b"MILL STREET" not in page.content
    assert reverse("admin:llm_extraction", args=[job.pk]).encode() in page.content
    assert b"march" in client.get(reverse("admin:llm_extractionbatch_changelist")).content
    page = client.get(reverse("admin:llm_extractionbatch_change", args=[batch.pk]))
    assert b"receipt.png" in page.content and b"no image" in page.content
    assert f"export?batch={batch.pk}".encode() in page.content


class TestForm:
    URL = "/admin/llm/extractionjob/add/"

    def test_a_document_that_is_here(self) -> None:
        user, client = member("annotator", "minji")
        paper = read_paper(owner=user)
        asked = client.get(self.URL, {"document": paper.document_id})
        assert f'value="{paper.document_id}" selected'.encode() in asked.content
        sent = {"documents": [str(paper.document_id)], "template": "receipt", "model": "rules"}
        answer = client.post(self.URL, sent)
        job = ExtractionJob.objects.get()
        assert answer.headers["Location"] == reverse("admin:llm_extraction", args=[job.pk])
        assert job.ocr_job == paper and job.owner == user

    def test_several_files_are_a_batch(self) -> None:
        _user, client = member("annotator", "minji")
        files = [SimpleUploadedFile(f"{n}.png", png(width=60 + n)) for n in range(2)]
        answer = client.post(self.URL, {"files": files, "template": "receipt", "model": ""})
        batch = ExtractionBatch.objects.get()
        assert str(batch.pk) in answer.headers["Location"] and len(batch.documents) == 2

    def test_nothing_chosen_and_a_file_that_is_none(self) -> None:
        _user, client = member("annotator", "minji")
        answer = client.post(self.URL, {"template": "receipt"})
        assert b"Choose files, or documents that are here." in answer.content
        file = SimpleUploadedFile("letter.png", b"no image")
        answer = client.post(self.URL, {"files": [file], "template": "receipt"})
        assert b"none of the accepted types" in answer.content
        assert not ExtractionJob.objects.exists()

    def test_nobody_extracts_from_what_they_may_not_see(self) -> None:
        paper = read_paper(owner=User.objects.create(username="lee"))
        _user, client = member("annotator", "minji")
        sent = {"documents": [str(paper.document_id)], "template": "receipt"}
        assert client.post(self.URL, sent).status_code == 200
        assert not ExtractionJob.objects.exists()


def test_a_template_is_made_and_a_built_in_one_left_alone() -> None:
    _user, client = member("operator", "olga")
    url = reverse("admin:llm_extractiontemplate_add")
    broken = {"name": "slip", "schema": '{"type": "objekt"}', "examples": "[]"}
    assert b"no JSON Schema" in client.post(url, broken).content
    schema = '{"type": "object", "properties": {"weight": {"type": "number"}}}'
    assert client.post(url, {**broken, "schema": schema}).status_code == 302
    assert ExtractionTemplate.objects.get(name="slip").owner is None
    receipt = ExtractionTemplate.objects.get(name="receipt")
    change = reverse("admin:llm_extractiontemplate_change", args=[receipt.pk])
    assert client.get(change).status_code == 200
    assert client.post(change, {**broken, "schema": schema}).status_code == 403
