"""Evaluations of OCR engines, by the API and in the console; figures come from made-up answers."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from finetune.evaluation import reading
from finetune.evaluation import run as evaluation_run
from finetune.evaluation.scoring import counts_of, scores_of
from finetune.models import DatasetVersion, Evaluation, EvaluationRow, ModelVersion
from finetune.services.evaluations import evaluation_promote, evaluation_submit
from finetune.tasks import evaluate
from finetune.version_files import version_rows
from llm.models import LanguageModel, ModelAlias
from mlops import engines
from mlops.exceptions import ApplicationError, NotAllowed
from mlops.models import User
from mlops.stored_folders import folder_put
from ocr.engines.base import Reading
from tests.fakes import FakeOcrEngine
from tests.finetune.conftest import Importer
from tests.finetune.made import chats, picture
from tests.finetune.test_admin import page, signed_in

pytestmark = pytest.mark.django_db

PLACE = "/api/v1/finetune/evaluations"
HALF = {"validation": 0.2, "test": 0.5}


class BlindOcrEngine(FakeOcrEngine):
    """Sees nothing on narrow pictures, and can't bear the widest."""

    name: ClassVar[str] = "blind"

    def read(self, image: np.ndarray, *, languages: tuple[str, ...]) -> Reading:
        if image.shape[1] > 400:
            raise ValueError("The picture is too wide.")
        seen = super().read(image, languages=languages)
        return seen if image.shape[1] > 200 else Reading((), "en", "blind-1")


class LineEngine:
    """A recogniser that reads the boxes it is given; what it says first lies in its folder."""

    name: ClassVar[str] = "recogniser"

    def __init__(self, *, folder: str, label: str) -> None:
        self.says = (Path(folder) / "says").read_text()

    def recognise(self, image: np.ndarray, boxes: list[np.ndarray]) -> list[SimpleNamespace]:
        (box,) = boxes
        assert box.max(axis=0).tolist() == [image.shape[1], image.shape[0]]
        return [SimpleNamespace(text=f" {self.says} {image.shape[1]} faint")]


@pytest.fixture
def ocr_engines(settings: Any) -> Iterator[None]:
    settings.ENGINES = {
        **settings.ENGINES,
        "ocr": {
            "fake": {"BACKEND": "tests.fakes.FakeOcrEngine"},
            "blind": {"BACKEND": "tests.finetune.test_evaluation_pages.BlindOcrEngine"},
        },
    }
    engines._caches.pop("ocr", None)
    yield
    engines._caches.pop("ocr", None)


@pytest.fixture
def lines(imported: Importer) -> DatasetVersion:
    """Pictures of lines whose text is what the fake engine says of their width."""
    rows = []
    for n in range(24):
        content = picture("x" * (5 + n))
        width = 12 * (5 + n)
        rows.append({"image": base64.b64encode(content).decode(), "text": f"width {width} faint"})
    wide = {"image": base64.b64encode(picture("x" * 40)).decode(), "text": "width 480 faint"}
    rows.append({**wide, "split": "test"})
    return imported([{**row, "split": row.get("split", "test")} for row in rows], "lines")


@pytest.fixture
def client(owner: User) -> APIClient:
    client = APIClient()
    client.force_authenticate(owner)
    return client


def answered(job: Evaluation, position: int, outputs: list[str]) -> None:
    """As if the side had answered the rows of the split like this, one after the other."""
    version, side = job.dataset_version, job.sides.get(position=position)
    numbers = evaluation_run.rows_chosen(version, job.split, rows=0, seed=0)
    for number, row, said in zip(numbers, version_rows(version, job.split), outputs, strict=True):
        one = {"output": said, "loss": 2.0 if said else 9.0, "tokens": 4, "right": 3}
        counts = counts_of("chat", row, one, written=True)
        EvaluationRow.objects.create(
            side=side, number=number, output=said, counts=counts, scores=scores_of(counts)
        )


@pytest.fixture
def compared(imported: Importer, owner: User) -> Evaluation:
    """Two models of which the second knows two of three answers, and the first one in six."""
    version = imported(chats(120), **HALF)
    for name in ("before", "after@1"):
        LanguageModel.objects.create(name=name, source="/nowhere")
    after = LanguageModel.objects.get(name="after@1")
    ModelVersion.objects.create(
        owner=owner, name="after", number=1, form="model", language_model=after
    )
    job = evaluation_submit(
        owner=owner, dataset_version=version, models=["before", "after@1"], rows=0
    )
    truths = [row["messages"][-1]["content"] for row in version_rows(version, "test")]
    answered(job, 0, [truth if n % 6 == 0 else "No idea." for n, truth in enumerate(truths)])
    answered(job, 1, [truth if n % 3 != 2 else "" for n, truth in enumerate(truths)])
    # No row is left to answer: no process is started.
    assert evaluate(str(job.pk))["status"] == "succeeded"
    job.refresh_from_db()
    return job


# -- OCR ----------------------------------------------------------------------------------------


def test_ocr_engines_on_lines(lines: DatasetVersion, owner: User, ocr_engines: None) -> None:
    job = evaluation_submit(owner=owner, dataset_version=lines, models=["ocr:fake", "ocr:blind"])
    assert evaluate(str(job.pk))["status"] == "succeeded"
    job.refresh_from_db()
    fake, blind = job.result["sides"]
    assert fake["figures"]["cer"]["value"] == 0 and fake["figures"]["exact"]["value"] == 1
    # It reads the pictures that are wider than 200 pixels, up to the widest.
    rows = lines.split_counts["test"]
    read = sum(200 < row["width"] <= 400 for row in version_rows(lines, "test"))
    assert blind["figures"]["exact"]["value"] == pytest.approx(read / rows)
    assert blind["errors"] == 1
    failed = EvaluationRow.objects.get(side__position=1, error="The picture is too wide.")
    assert failed.scores["cer"] == 1.0
    assert job.progress_done == 2 * rows


def test_a_recogniser_reads_lines_as_they_are(
    lines: DatasetVersion, owner: User, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing is looked for in the picture: the line is all of it."""
    monkeypatch.setattr(reading, "BACKEND", f"{__name__}.LineEngine")
    made = ModelVersion.objects.create(name="letters", number=1, form="recogniser", owner=owner)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "says").write_text("width")
    folder_put(tmp_path / "files", made.folder)
    job = evaluation_submit(owner=owner, dataset_version=lines, models=["letters@1"])
    assert evaluate(str(job.pk))["status"] == "succeeded"
    job.refresh_from_db()
    assert job.result["sides"][0]["figures"]["exact"]["value"] == 1


def test_what_does_not_go_together(lines: DatasetVersion, owner: User, ocr_engines: None) -> None:
    LanguageModel.objects.create(name="writer", source="/nowhere")

    def refused(models: list[str], **options: Any) -> str:
        with pytest.raises(ApplicationError) as caught:
            evaluation_submit(owner=owner, dataset_version=lines, models=models, **options)
        return caught.value.message

    assert "'writer' is a language model, and the dataset holds pictures" in refused(["writer"])
    assert "There is no engine 'nobody'" in refused(["ocr:nobody"])
    assert "There is no model or version 'who@7'" in refused(["who@7"])
    assert "not 'loss'" in refused(["ocr:fake"], metrics=["loss"])
    assert "no rows in its validation split" in refused(["ocr:fake"], split="validation")
    assert "each may be named once" in refused(["ocr:fake", "ocr:fake"])


# -- the API ------------------------------------------------------------------------------------


def test_by_the_api(
    client: APIClient, lines: DatasetVersion, owner: User, ocr_engines: None
) -> None:
    given = {"models": ["ocr:fake", "ocr:blind"], "dataset": "lines", "metrics": ["cer"]}
    answer = client.post(f"{PLACE}/", given, format="json")
    assert answer.status_code == 202, answer.content
    job = answer.json()
    assert answer["Location"] == job["url"]
    assert [side["label"] for side in job["sides"]] == ["ocr:fake", "ocr:blind"]
    evaluate(job["id"])
    job = client.get(job["url"]).json()
    assert job["status"] == "succeeded" and set(job["result"]["sides"][0]["figures"]) == {"cer"}
    rows = client.get(f"{job['url'].rstrip('/')}/rows/", {"page_size": 2}).json()
    assert rows["count"] == lines.split_counts["test"]
    worst = rows["results"][0]
    assert worst["answers"][1]["score"] == 1.0 and worst["truth"].startswith("width ")
    assert worst["difference"] == 1.0 and worst["answers"][0]["output"] == worst["truth"]
    answer = client.post(f"{job['url'].rstrip('/')}/promote/", {}, format="json")
    assert answer.status_code == 409 and "no version" in answer.json()["error"]["message"]


def test_rows_where_sides_differ(client: APIClient, compared: Evaluation) -> None:
    place = f"{PLACE}/{compared.pk}/rows/"
    rows = client.get(place, {"order": "gained", "metric": "exact"}).json()["results"]
    assert rows[0]["difference"] == 1.0 and "minutes by the tram" in rows[0]["truth"]
    rows = client.get(place, {"order": "lost", "metric": "exact", "page_size": 100}).json()
    gains = [row["difference"] for row in rows["results"]]
    assert gains == sorted(gains)
    # Of a loss less is better: what was gained is where it has gone down.
    rows = client.get(place, {"order": "lost", "metric": "loss"}).json()["results"]
    assert rows[0]["difference"] == 1.75
    answer = client.get(place, {"order": "sideways"})
    assert answer.status_code == 400 and "order: one of" in answer.content.decode()
    assert client.get(place, {"b": "7"}).status_code == 400


def test_the_better_one_is_promoted(client: APIClient, compared: Evaluation) -> None:
    answer = client.post(f"{PLACE}/{compared.pk}/promote/", {}, format="json")
    assert answer.json() == {"name": "after", "model": "after@1"}
    assert ModelAlias.objects.get(name="after").targets.get().model.name == "after@1"


def test_nothing_is_promoted_while_it_is_open(compared: Evaluation) -> None:
    compared.result["differences"] = [
        {**one, "low": -0.1, "high": 0.2} for one in compared.result["differences"]
    ]
    with pytest.raises(NotAllowed, match="the intervals leave it open"):
        evaluation_promote(evaluation=compared)
    with pytest.raises(NotAllowed, match="no version that training has made"):
        evaluation_promote(evaluation=compared, position=0)


def test_others_do_not_see_it(compared: Evaluation) -> None:
    client = APIClient()
    client.force_authenticate(User.objects.create_user("lee"))
    assert client.get(f"{PLACE}/{compared.pk}/").status_code == 404
    assert client.get(f"{PLACE}/").json()["count"] == 0


# -- the console --------------------------------------------------------------------------------


@pytest.fixture
def operator(db: None) -> Client:
    return signed_in("op", "operator")[0]


def test_figures_in_the_console(operator: Client, compared: Evaluation) -> None:
    listed = page(operator, "evaluation_changelist")
    assert "before against after@1" in listed and "after@1</td>" in listed
    shown = page(operator, "evaluation_change", compared.pk)
    assert shown.count('class="evaluation-figure"') == 5
    exact = compared.result["sides"][1]["figures"]["exact"]["value"]
    assert 0.6 < exact < 0.7 and f"{exact:.1%}".replace("%", " %") in shown
    assert "Promote the better one" in shown
    address = reverse("admin:finetune_evaluation_promote", args=[compared.pk])
    answer = operator.post(address, {"position": "1"}, follow=True)
    assert "answered by after@1 from now on" in answer.content.decode()


def test_rows_in_the_console(operator: Client, compared: Evaluation) -> None:
    shown = page(operator, "evaluation_rows", compared.pk)
    assert shown.count("<article") == 20 and "No idea." in shown
    shown = page(operator, "evaluation_rows", compared.pk, order="gained", metric="exact", p="2")
    assert "+0.0 points" in shown or "+100.0 points" in shown
    shown = operator.get(
        reverse("admin:finetune_evaluation_rows", args=[compared.pk]), {"metric": "x"}, follow=True
    )
    assert "metric: one of" in shown.content.decode()


def test_a_new_one_by_the_form(operator: Client, lines: DatasetVersion, ocr_engines: None) -> None:
    assert "Evaluate models" in page(operator, "evaluation_changelist")
    given = {
        "models": "ocr:fake, ocr:nobody",
        "dataset_version": str(lines.pk),
        "split": "test",
        "rows": "5",
        "max_tokens": "10",
    }
    address = reverse("admin:finetune_evaluation_new")
    shown = operator.post(address, given).content.decode()
    assert "There is no engine" in shown
    answer = operator.post(address, given | {"models": "ocr:fake, ocr:blind"})
    job = Evaluation.objects.get()
    assert answer["Location"] == reverse("admin:finetune_evaluation_change", args=[job.pk])
    assert "The figures come with the last row" in page(operator, "evaluation_change", job.pk)
    evaluate(str(job.pk))
    shown = page(operator, "evaluation_rows", job.pk)
    assert shown.count("<img") == 5


def test_who_only_looks_changes_nothing(lines: DatasetVersion, compared: Evaluation) -> None:
    viewer = signed_in("eve", "annotator")[0]
    assert viewer.get(reverse("admin:finetune_evaluation_new")).status_code == 403
    address = reverse("admin:finetune_evaluation_promote", args=[compared.pk])
    assert viewer.post(address).status_code == 403
