"""The console's pages of training and of versions of models, by the test client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.files.base import ContentFile
from django.test import Client
from django.urls import reverse

from finetune.card_html import card_html
from finetune.dry_report import report_view
from finetune.models import DatasetImport, DatasetVersion, ModelVersion, TrainingJob
from finetune.tasks import import_dataset
from llm.models import LanguageModel, ModelAlias
from llm.services.files import stored_file_create
from mlops.models import Job, User
from tests.finetune.conftest import Importer
from tests.finetune.made import chats
from tests.finetune.training_rows import (
    REPORT,
    base_model,
    dry_run_done,
    points,
    succeeded,
    training,
    under_way,
)

pytestmark = pytest.mark.django_db


def signed_in(role: str) -> Client:
    user = User.objects.create_user(role, is_staff=True)
    user.groups.add(Group.objects.get(name=role))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def operator(db: None) -> Client:
    return signed_in("operator")


@pytest.fixture
def version(imported: Importer) -> DatasetVersion:
    base_model()
    return imported(chats(30), test=0.1)


def address(view: str, *args: Any) -> str:
    return reverse(f"admin:finetune_{view}", args=args)


def page(client: Client, view: str, *args: Any, **query: Any) -> str:
    answer = client.get(address(view, *args), query)
    assert answer.status_code == 200, answer
    return answer.content.decode()


# -- the form -------------------------------------------------------------------------------------


def test_a_training_is_started_by_the_form(operator: Client, version: DatasetVersion) -> None:
    form = page(operator, "trainingjob_add", name="trams-sft")
    assert 'value="trams-sft"' in form and "trams v1 (30 rows" in form
    assert 'name="option_lora_r"' in form and "Rank (1 to 1,024)" in form
    given = {
        "method": "sft",
        "name": "trams-sft",
        "base": base_model().pk,
        "dataset_version": version.pk,
        "serve": "on",
        "option_epochs": "2.5",
        "option_lora_r": "4",
        "option_answers_only": "on",
        "act": "start",
    }
    answer = operator.post(address("trainingjob_add"), given)
    job = TrainingJob.objects.get()
    assert answer["Location"] == address("trainingjob_change", job.pk)
    assert (job.options["epochs"], job.options["lora_r"]) == (2.5, 4)
    assert job.options["batch_size"] == "auto" and job.options["answers_only"]
    assert job.serve and not job.dry_run and str(job.owner) == "operator"
    # A switch that is off isn't sent at all.
    del given["option_answers_only"], given["serve"]
    operator.post(address("trainingjob_add"), {**given, "act": "dry_run"})
    job = TrainingJob.objects.get(dry_run=True)
    assert not job.options["answers_only"] and not job.serve


def test_what_is_wrong_stands_at_its_field(operator: Client, version: DatasetVersion) -> None:
    given = {"method": "sft", "name": "a name", "base": base_model().pk}
    given |= {"dataset_version": version.pk, "option_epochs": "2"}
    for more, field, said in (
        ({}, "name", "Letters, digits"),
        ({"name": "x", "option_keep_checkpoints": "0"}, "option_keep_checkpoints", "1 to 100"),
        ({"name": "x", "dataset_version": ""}, "dataset_version", "required"),
        ({"name": "x", "option_resume_from": "y"}, "option_resume_from", "no sft job"),
    ):
        asked = operator.post(address("trainingjob_dry_run"), {**given, **more})
        errors = asked.json()["errors"]
        assert asked.status_code == 400 and list(errors) == [field] and said in errors[field][0]
        shown = operator.post(address("trainingjob_add"), {**given, **more}).content.decode()
        assert said in shown
    assert not TrainingJob.objects.exists()


def test_each_method_has_its_own_options(operator: Client, version: DatasetVersion) -> None:
    recogniser = page(operator, "trainingjob_add", method="ocr-recognition")
    assert 'name="option_hidden"' in recogniser and 'name="base"' not in recogniser
    # There are no rows that it could learn from.
    assert "trams v1" not in recogniser and "No dataset that this method" in recogniser
    assert 'name="option_beta"' in page(operator, "trainingjob_add", method="dpo")
    assert 'name="option_answers_only"' in page(operator, "trainingjob_add", method="nonsense")


def test_a_dry_run_is_followed_and_reported(operator: Client, version: DatasetVersion) -> None:
    given = {"method": "sft", "name": "x", "base": base_model().pk, "dataset_version": version.pk}
    asked = operator.post(address("trainingjob_dry_run"), given)
    assert asked.status_code == 202
    place = asked.json()["report"]
    job = TrainingJob.objects.get(dry_run=True)
    assert job.priority == 0
    waiting = operator.get(place)
    assert waiting.status_code == 202 and "Waits for a worker" in waiting.json()["phase"]
    dry_run_done(job)
    report = operator.get(place).content.decode()
    assert '<mark class="token-learned">Write K-1004' in report and "cut off here" in report
    assert "34" in report and "36,840" in report and REPORT["warnings"][0] in report
    assert "What the model will see" in page(operator, "trainingjob_change", job.pk)
    Job.objects.filter(pk=job.pk).update(status=Job.Status.FAILED, error="No answer in the rows.")
    TrainingJob.objects.filter(pk=job.pk).update(dry_report={})
    assert "No answer in the rows." in operator.get(place).content.decode()


def test_examples_are_text_and_nothing_else() -> None:
    from django.template.loader import render_to_string

    run = {"text": "<script>alert(1)</script>", "loss": True}
    report = REPORT | {"examples": [REPORT["examples"][0] | {"runs": [run]}]}
    shown = render_to_string("finetune/training/report.html", {"report": report_view(report)})
    assert "<script>" not in shown and "&lt;script&gt;" in shown


def test_a_stored_file_is_imported_by_the_form(operator: Client, storage: Path) -> None:
    user = User.objects.get(username="operator")
    lines = "".join(json.dumps(row) + "\n" for row in chats(3)).encode()
    file = stored_file_create(
        owner=user, file=ContentFile(lines), purpose="fine-tune", filename="trams.jsonl"
    )
    assert "trams.jsonl" in page(operator, "dataset_add")
    given = {"name": "trams", "test": "10", "validation": "0", "stored": file.pk}
    operator.post(address("dataset_add"), given)
    job = DatasetImport.objects.get()
    assert import_dataset(str(job.pk))["status"] == "succeeded"
    assert DatasetVersion.objects.get().source == "trams.jsonl"


def test_the_report_of_a_recogniser_shows_lines() -> None:
    from django.template.loader import render_to_string

    example = {"runs": [{"text": "합계 1,200", "loss": True}], "tokens": 8, "learned": 8}
    example |= {"cut_off": False, "picture": "data:image/png;base64,AA", "width": 90, "height": 32}
    letters = {"text": "0123합계", "kinds": {"합": 4}, "only_in_validation": "곳"}
    report = REPORT | {"examples": [example], "characters": letters}
    shown = render_to_string("finetune/training/report.html", {"report": report_view(report)})
    assert 'src="data:image/png;base64,AA"' in shown and "8 characters, 8 of them" in shown
    assert "0123합계" in shown and "never learned: 곳" in shown


# -- a job ----------------------------------------------------------------------------------------


def test_the_page_and_its_state(operator: Client, owner: User, version: DatasetVersion) -> None:
    job = under_way(training(owner, version, options={"lora_r": 8}))
    shown = page(operator, "trainingjob_change", job.pk)
    for text in ("Training, on cpu", "4,870", "700.0", "Checkpoint", "removed", "best 0.93"):
        assert text.lower() in shown.lower(), text
    assert "data-changed" in shown and 'id="training-curves"' in shown
    state = operator.get(address("trainingjob_state", job.pk)).json()
    assert len(state["curves"]["points"]) == 30 and state["curves"]["total"] == 100
    assert [one["step"] for one in state["curves"]["checkpoints"]] == [20, 40, 60]
    assert "Pause" in state["parts"]["acts"] and not state["finished"]
    points(job, range(62, 65, 2), 100)
    place = address("trainingjob_state", job.pk)
    newer = operator.get(place, {"after": state["curves"]["cursor"]}).json()
    assert [one["step"] for one in newer["curves"]["points"]] == [62, 64]
    assert "trams-sft" in page(operator, "trainingjob_changelist")


def test_buttons_do_what_they_say(operator: Client, owner: User, version: DatasetVersion) -> None:
    job = training(owner, version)

    def act(name: str) -> TrainingJob:
        answer = operator.post(address("trainingjob_act", job.pk, name))
        assert answer["Location"] == address("trainingjob_change", job.pk)
        job.refresh_from_db()
        return job

    assert act("pause").paused
    assert "Resume" in page(operator, "trainingjob_change", job.pk)
    assert not act("resume").held
    assert act("cancel").status == Job.Status.CANCELLED
    assert "Retry" in page(operator, "trainingjob_change", job.pk)
    assert act("retry").status == Job.Status.QUEUED
    assert operator.get(address("trainingjob_act", job.pk, "cancel")).status_code == 405
    assert operator.post(address("trainingjob_act", job.pk, "explode")).status_code == 405


def test_annotators_look(owner: User, version: DatasetVersion) -> None:
    client = signed_in("annotator")
    job = under_way(training(owner, version))
    shown = page(client, "trainingjob_change", job.pk)
    assert "4,870" in shown and "Pause" not in shown and "Cancel" not in shown
    assert "New training" not in page(client, "trainingjob_changelist")
    for act in ("pause", "cancel"):
        assert client.post(address("trainingjob_act", job.pk, act)).status_code == 403
    assert client.get(address("trainingjob_add")).status_code == 403
    assert client.post(address("trainingjob_dry_run"), {"method": "sft"}).status_code == 403
    made = succeeded(job, callable_as="trams-sft@1")
    shown = page(client, "modelversion_change", made.pk)
    assert "Promote" not in shown and "remove/" not in shown
    for act in ("promote", "remove"):
        assert client.post(address(f"modelversion_{act}", made.pk)).status_code == 403
    assert ModelVersion.objects.exists()
    assert client.get(reverse("admin:index")).status_code == 200


# -- versions -------------------------------------------------------------------------------------


def test_a_version_and_where_it_comes_from(
    operator: Client, owner: User, version: DatasetVersion
) -> None:
    job = training(owner, version)
    made = succeeded(job, callable_as="trams-sft@1")
    shown = page(operator, "modelversion_change", made.pk)
    for place in (
        address("datasetversion_change", version.pk),
        address("trainingjob_change", job.pk),
        reverse("admin:llm_languagemodel_change", args=[job.base_id]),
        reverse("admin:llm_languagemodel_change", args=[made.language_model_id]),
    ):
        assert place in shown, place
    assert "<td>eval_loss</td><td>0.58</td>" in shown and "3.1e-06" in shown
    assert "trams-sft v1" in page(operator, "modelversion_changelist")
    # What has been deleted since is named.
    version.dataset.delete()
    assert "deleted since" in page(operator, "modelversion_change", made.pk)


def test_promote_and_delete(operator: Client, owner: User, version: DatasetVersion) -> None:
    made = succeeded(training(owner, version), callable_as="trams-sft@1")
    promote, remove = (address(f"modelversion_{act}", made.pk) for act in ("promote", "remove"))
    for weight in ("0", "101", "x", ""):
        operator.post(promote, {"weight": weight})
        assert not ModelAlias.objects.exists()
    operator.post(promote, {"weight": "100"})
    assert ModelAlias.objects.get().targets.get().model.name == "trams-sft@1"
    assert "100 %" in page(operator, "modelversion_change", made.pk)
    assert operator.get(remove).status_code == 405
    answer = operator.post(remove)
    assert answer["Location"] == address("modelversion_changelist")
    assert not ModelVersion.objects.exists()
    assert not LanguageModel.objects.filter(name="trams-sft@1").exists()


def test_a_card_is_text_and_nothing_else() -> None:
    card = "# <b>x</b>\n\n| a | b |\n| --- | --- |\n| 1 \\| 2 | <i>3</i> |\n\nSo *be* it.\n"
    assert card_html(card) == (
        "<h2>&lt;b&gt;x&lt;/b&gt;</h2>\n"
        '<table class="console-table"><thead><tr><th>a</th><th>b</th></tr></thead>'
        "<tbody><tr><td>1 | 2</td><td>&lt;i&gt;3&lt;/i&gt;</td></tr></tbody></table>\n"
        "<p>So *be* it.</p>"
    )


def test_the_dashboard_counts_trainings(
    operator: Client, owner: User, version: DatasetVersion
) -> None:
    succeeded(training(owner, version))
    under_way(training(owner, version))
    training(owner, version)
    shown = operator.get(reverse("admin:index")).content.decode()
    for text in ("Trainings", "1 waiting", "Models trained", "Models loaded", "Tokens today"):
        assert text in shown, text
