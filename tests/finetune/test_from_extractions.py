"""Datasets out of accepted extractions: the request as a model gets it, the values, the lineage."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.urls import reverse
from rest_framework.test import APIClient

from finetune import services
from finetune.evaluation.scoring import counts_of, scores_of
from finetune.models import DatasetImport, DatasetVersion
from finetune.tasks import import_dataset
from finetune.version_files import version_rows
from llm.extraction.base import Task
from llm.extraction.prompt import messages, page_lines
from llm.extraction_pages import pages_of
from llm.models import ExtractionJob
from llm.services.extraction_review import extraction_accept, extraction_reopen, value_change
from mlops.exceptions import ApplicationError
from mlops.models import User
from tests.finetune.test_admin import page, signed_in
from tests.llm.paper_rows import read_paper

pytestmark = pytest.mark.django_db

SCHEMA = {
    "type": "object",
    "properties": {"shop": {"type": "string"}, "total": {"type": "string"}},
    "required": ["shop", "total"],
}


def extracted(owner: User, number: int, *, accept: bool = True) -> ExtractionJob:
    """Values of a receipt of which the total was corrected."""
    read = read_paper(
        [f"Blue Door {number}", f"Total {number}.50"], owner=owner, name=f"receipt {number}.png"
    )
    job = ExtractionJob.objects.create(
        kind=ExtractionJob.KIND,
        queue=ExtractionJob.QUEUE,
        owner=owner,
        status="succeeded",
        document=read.document,
        ocr_job=read,
        schema=SCHEMA,
        instructions="Amounts with two places.",
        values={"shop": f"Blue Door {number}", "total": "9.99"},
    )
    job = value_change(job=job, user=owner, version=0, path="/total", value=f"{number}.50")
    return extraction_accept(job=job, user=owner, version=1) if accept else job


def made(owner: User, **options: Any) -> DatasetVersion:
    job = services.dataset_from_extractions(owner=owner, name="receipts", **options)
    assert import_dataset(str(job.pk))["status"] == "succeeded"
    job.refresh_from_db()
    assert job.version is not None
    return job.version


def rows(version: DatasetVersion) -> list[dict[str, Any]]:
    return [row for split in version.split_counts for row in version_rows(version, split)]


def test_what_a_model_is_asked_and_what_was_accepted(storage: Path, owner: User) -> None:
    jobs = [extracted(owner, number) for number in range(1, 9)]
    extracted(owner, 20, accept=False)
    version = made(owner, test=0.25, validation=0.1)
    assert (version.dataset.kind, version.source) == ("chat", "8 accepted extractions")
    found = {row["meta"]["extraction"]: row for row in rows(version)}
    assert set(found) == {str(job.pk) for job in jobs}
    job, row = jobs[2], found[str(jobs[2].pk)]
    asked = messages("\n".join(page_lines(pages_of(job))), Task(SCHEMA, job.instructions))
    assert row["messages"][:-1] == asked
    assert row["messages"][-1]["content"] == '{"shop":"Blue Door 3","total":"3.50"}'
    assert row["meta"]["document"] == str(job.document_id) and row["meta"]["corrected"]
    # An evaluation scores such rows by field.
    said = json.dumps({"shop": "Blue Door 3", "total": "3.5"})
    scores = scores_of(counts_of("chat", row, {"output": said}, written=True))
    assert scores["field.total.exact"] == 1.0 and scores["exact"] == 0.0


def test_the_import_says_where_its_rows_come_from(storage: Path, owner: User) -> None:
    extracted(owner, 1)
    job = services.dataset_from_extractions(owner=owner, name="receipts")
    assert job.get_origin_display() == "accepted extractions"
    # Earlier ones were told from those of pages by an option alone.
    options = {"origin": "reviews", "dataset": job.dataset, "owner": owner}
    old = DatasetImport.objects.create(options={"make": "extraction"}, **options)
    pages = DatasetImport.objects.create(options={"make": "ocr"}, **options)
    import_module("finetune.migrations.0003_merges").extractions_tell(apps, None)
    old.refresh_from_db()
    pages.refresh_from_db()
    assert (old.origin, pages.origin) == ("extractions", "reviews")


def test_only_what_one_may_see_and_what_is_still_accepted(storage: Path, owner: User) -> None:
    mine = [extracted(owner, number) for number in (1, 2, 3)]
    theirs = extracted(User.objects.create_user("lee"), 4)
    chosen = [str(mine[0].pk), str(mine[1].pk), str(theirs.pk)]
    job = services.dataset_from_extractions(owner=owner, name="receipts", extractions=chosen)
    assert set(job.options["extractions"]) == {str(mine[0].pk), str(mine[1].pk)}
    # Somebody takes one back before the worker comes to it.
    extraction_reopen(job=mine[1], user=owner)
    import_dataset(str(job.pk))
    job.refresh_from_db()
    assert job.version.rows == 1
    assert "1 of 2 are not accepted any more" in " ".join(job.version.report["notes"])
    with pytest.raises(ApplicationError, match="None of these extractions is accepted"):
        services.dataset_from_extractions(
            owner=owner, name="receipts", extractions=[str(theirs.pk)]
        )


def test_by_the_api(storage: Path, owner: User) -> None:
    chosen = extracted(owner, 1)
    extracted(owner, 2)
    client = APIClient()
    client.force_authenticate(owner)
    place = "/api/v1/finetune/datasets/from_extractions/"
    given = {"name": "receipts", "extractions": [str(chosen.pk)]}
    answer = client.post(place, given, format="json")
    assert answer.status_code == 202 and answer.json()["source"] == "1 accepted extraction"
    answer = client.post(place, {"name": "receipts"}, format="json")
    assert answer.json()["source"] == "2 accepted extractions"
    assert client.post(place, {**given, "extractions": ["x"]}, format="json").status_code == 400


def test_by_an_action_of_the_console(storage: Path) -> None:
    operator, user = signed_in("op", "operator")
    chosen = [extracted(user, number) for number in (1, 2)]
    extracted(user, 3, accept=False)
    assert "From accepted extractions" in page(operator, "dataset_changelist")
    everything = ExtractionJob.objects.values_list("pk", flat=True)
    asked = operator.post(
        reverse("admin:llm_extractionjob_changelist"),
        {"action": "make_dataset", "_selected_action": [str(pk) for pk in everything]},
    )
    shown = asked.content.decode()
    assert "2 accepted of 3 chosen" in shown and "are left out" in shown
    address = reverse("admin:finetune_dataset_from_extractions")
    given = {"name": "receipts", "test": "10", "validation": "0"}
    answer = operator.post(address, {**given, "extraction": [str(chosen[0].pk)]})
    job = DatasetImport.objects.get()
    assert answer["Location"] == reverse("admin:finetune_datasetimport_change", args=[job.pk])
    assert job.source == "1 accepted extraction"
    annotator = signed_in("eve", "annotator")[0]
    assert annotator.get(address).status_code == 403
