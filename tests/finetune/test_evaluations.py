"""Evaluations: figures by hand, real models side by side, OCR engines, the API and the console."""

from __future__ import annotations

import math
import random
import statistics
from pathlib import Path
from typing import Any

import pytest

from finetune.evaluation import run as evaluation_run
from finetune.evaluation.metrics import difference_shown, shown
from finetune.evaluation.results import SideRows, result_of, verdict
from finetune.evaluation.scoring import counts_of, scores_of
from finetune.models import EvaluationRow, EvaluationSide, ModelVersion
from finetune.services.evaluations import better_side, evaluation_promote, evaluation_submit
from finetune.tasks import evaluate
from llm.models import LanguageModel, ModelAlias
from llm.tiny import lessons
from mlops.models import User
from tests.finetune.conftest import Importer
from tests.finetune.made import chat

HALF = {"validation": 0.2, "test": 0.5}


# -- figures ------------------------------------------------------------------------------------


def test_counts_of_an_answer_in_json() -> None:
    row = chat("Read it.", '{"shop": "Blue Door", "total": "12.50", "date": "2026-03-01"}')
    said = '```json\n{"shop": "Blue Doar", "total": "12.5", "date": "2026-03-02"}\n```'
    counts = counts_of(
        "chat", row, {"output": said, "loss": 3.0, "tokens": 12, "right": 9}, written=True
    )
    assert scores_of(counts) == {
        "exact": 0.0,
        "strict": 0.0,
        "fields_exact": pytest.approx(1 / 3, abs=1e-6),
        "fields_fuzzy": pytest.approx(1 / 3, abs=1e-6),
        "token_accuracy": 0.75,
        "loss": 0.25,
        "perplexity": pytest.approx(math.exp(0.25), abs=1e-6),
        "field.shop.exact": 0.0,
        "field.shop.fuzzy": 0.0,
        "field.total.exact": 1.0,
        "field.total.fuzzy": 1.0,
        "field.date.exact": 0.0,
        "field.date.fuzzy": 0.0,
    }


def test_exact_match_strict_and_normalised() -> None:
    row = chat("Capital?", "Solmar, by  the sea.")
    near = scores_of(counts_of("chat", row, {"output": "solmar, by the SEA."}, written=True))
    assert (near["exact"], near["strict"]) == (1.0, 0.0)
    same = scores_of(counts_of("chat", row, {"output": " Solmar, by  the sea.\n"}, written=True))
    assert (same["exact"], same["strict"]) == (1.0, 1.0)


def test_a_row_without_an_answer_is_wrong_in_all() -> None:
    row = {"prompt": "re@d", "completion": "read it"}
    counts = counts_of("completion", row, {"error": "too long"}, written=True)
    assert scores_of(counts) == {"exact": 0.0, "strict": 0.0, "cer": 1.0, "wer": 1.0}


def test_margin_of_a_preference() -> None:
    answered = {"loss": 4.0, "tokens": 4, "right": 2, "rejected_loss": 7.0}
    found = scores_of(
        counts_of("preference", {"chosen": [], "prompt": []}, answered, written=False)
    )
    assert found["margin"] == 3.0 and found["preferred"] == 1.0 and found["loss"] == 1.0


def test_interval_covers_as_often_as_it_says() -> None:
    """Of 60 samples from a coin that falls right 7 times in 10, most intervals hold the 0.7."""
    chance, held = random.Random(3), 0
    for n in range(60):
        rows = [(str(k), {"exact": float(chance.random() < 0.7), "rows": 1.0}) for k in range(80)]
        one = result_of([SideRows("a", rows)], ["exact"], seed=n, samples=300)
        figure = one["sides"][0]["figures"]["exact"]
        held += figure["low"] <= 0.7 <= figure["high"]
    assert held >= 50


def test_interval_is_as_wide_as_theory_says_and_the_same_each_time() -> None:
    chance = random.Random(1)
    values = [chance.gauss(2.0, 1.0) for _ in range(400)]
    rows = [(str(n), {"loss": value, "tokens": 1.0}) for n, value in enumerate(values)]
    one = result_of([SideRows("a", rows)], ["loss", "perplexity"], seed=5)
    figure = one["sides"][0]["figures"]["loss"]
    assert figure["value"] == pytest.approx(statistics.mean(values))
    wanted = 2 * 1.96 * statistics.stdev(values) / 20
    assert figure["high"] - figure["low"] == pytest.approx(wanted, rel=0.12)
    assert figure["n"] == 400
    perplexity = one["sides"][0]["figures"]["perplexity"]
    assert perplexity["low"] == pytest.approx(math.exp(figure["low"]), rel=1e-6)
    assert result_of([SideRows("a", rows)], ["loss", "perplexity"], seed=5) == one


def test_differences_are_paired() -> None:
    """Two sides of which one is always a little better: beyond doubt, though both spread widely."""
    chance = random.Random(2)
    base = [chance.gauss(5.0, 3.0) for _ in range(100)]
    sides = [
        SideRows(name, [(str(n), {"loss": v - less, "tokens": 1.0}) for n, v in enumerate(base)])
        for name, less in (("before", 0.0), ("after", 0.1))
    ]
    result = result_of(sides, ["loss"], seed=0)
    first, second = (side["figures"]["loss"] for side in result["sides"])
    assert second["low"] < first["value"] < second["high"]
    (difference,) = result["differences"]
    assert difference["value"] == pytest.approx(-0.1) and difference["high"] < -0.09
    assert verdict(difference) == "better"


def test_rows_of_a_group_are_drawn_together() -> None:
    """Ten pages of twenty lines that stand or fall together say as much as ten rows."""
    rows = [(str(n % 10), {"exact": float(n % 10 < 6), "rows": 1.0}) for n in range(200)]
    alone = [(str(n), counts) for n, (_group, counts) in enumerate(rows)]
    wide, narrow = (result_of([SideRows("a", one)], ["exact"], seed=0) for one in (rows, alone))
    assert (wide["groups"], narrow["groups"]) == (10, 200)

    def width(result: dict[str, Any]) -> float:
        figure = result["sides"][0]["figures"]["exact"]
        return figure["high"] - figure["low"]

    assert width(wide) > 3 * width(narrow)


def test_many_rows_take_no_longer_and_say_the_same() -> None:
    chance = random.Random(9)
    rows = [(str(n), {"exact": float(chance.random() < 0.5), "rows": 1.0}) for n in range(30_000)]
    figure = result_of([SideRows("a", rows)], ["exact"], seed=0)["sides"][0]["figures"]["exact"]
    assert figure["high"] - figure["low"] == pytest.approx(2 * 1.96 * 0.5 / 30_000**0.5, rel=0.15)


def test_rows_that_all_agree_leave_room_for_what_was_not_seen() -> None:
    """Ten of ten right rule out less than a share of 0.69, not everything below 1."""
    right = [(str(n), {"exact": 1.0, "rows": 1.0}) for n in range(10)]
    wrong = [(group, {"exact": 0.0, "rows": 1.0}) for group, _counts in right]
    sides = [SideRows("before", wrong), SideRows("after", right), SideRows("again", right)]
    result = result_of(sides, ["exact"], seed=0)
    before, after, _again = (side["figures"]["exact"] for side in result["sides"])
    assert (after["low"], after["high"]) == (pytest.approx(0.025**0.1), 1.0)
    assert (before["low"], before["high"]) == (0.0, pytest.approx(1 - 0.025**0.1))
    gain, _other, same = result["differences"]
    assert gain["low"] == pytest.approx(0.025**0.1) and verdict(gain) == "better"
    assert same["low"] < 0 < same["high"] and verdict(same) == ""


def test_figures_in_words() -> None:
    assert (shown("exact", 0.9312), shown("loss", 0.4821), shown("exact", None)) == (
        "93.1 %",
        "0.482",
        "n/a",
    )
    assert difference_shown("exact", -0.032) == "-3.2 points"


# -- language models ----------------------------------------------------------------------------


@pytest.fixture
def models(trained_model: Path, random_model: Path, db: None) -> list[LanguageModel]:
    """One that has learned its lessons, and one that says anything."""
    return [
        LanguageModel.objects.create(name=name, source=str(folder), dtype="float32")
        for name, folder in (("stranger", random_model), ("pupil@1", trained_model))
    ]


@pytest.fixture
def work(settings: Any, tmp_path: Path) -> Path:
    settings.TRAINING_FOLDER = tmp_path / "training"
    return settings.TRAINING_FOLDER


def lesson_rows(count: int = 12) -> list[dict[str, Any]]:
    """Questions of the kinds that the pupil has learned, with values of their own."""
    asked = {one.question: one for one in lessons(11, count) if not one.tools}
    return [{"messages": one.messages} for one in asked.values()]


def version_of(model: LanguageModel, number: int = 1, owner: User | None = None) -> ModelVersion:
    return ModelVersion.objects.create(
        owner=owner, name="pupil", number=number, form="model", language_model=model
    )


@pytest.mark.timeout(400)
@pytest.mark.django_db(transaction=True)
def test_two_models_side_by_side(
    imported: Importer, owner: User, models: list[LanguageModel], work: Path
) -> None:
    version = imported(lesson_rows(), **HALF)
    version_of(models[1])
    job = evaluation_submit(
        owner=owner, dataset_version=version, models=["stranger", "pupil@1"], max_tokens=40
    )
    assert evaluate(str(job.pk))["status"] == "succeeded"
    job.refresh_from_db()
    rows = version.split_counts["test"]
    assert job.progress_done == job.progress_total == 2 * rows
    stranger, pupil = (side["figures"] for side in job.result["sides"])
    assert pupil["exact"]["value"] > 0.9 and stranger["exact"]["value"] == 0
    assert pupil["exact"]["n"] == rows
    assert pupil["loss"]["high"] < 0.2 < 5 < stranger["loss"]["low"]
    assert pupil["token_accuracy"]["value"] > 0.95
    # The answers in JSON, by field.
    assert pupil["field.city.exact"]["value"] == 1.0
    assert {one["metric"]: verdict(one) for one in job.result["differences"]}["exact"] == "better"
    assert not list(work.glob("evaluations/*"))
    assert better_side(job) == 1
    evaluation_promote(evaluation=job)
    (target,) = ModelAlias.objects.get(name="pupil").targets.all()
    assert target.model == models[1]


@pytest.mark.timeout(400)
@pytest.mark.django_db(transaction=True)
def test_cut_off_and_gone_on_with(
    imported: Importer, owner: User, models: list[LanguageModel], work: Path, monkeypatch: Any
) -> None:
    """Cancelled after the first answers, then retried: only what is missing is answered."""
    version = imported(lesson_rows(), **HALF)
    job = evaluation_submit(owner=owner, dataset_version=version, models=["pupil@1"])
    kept = evaluation_run._Work._keep

    def cancels(self: Any, side: EvaluationSide, answered: Any, rows: Any) -> None:
        kept(self, side, answered[:2], rows)
        job.cancel()
        self._looked = 0.0

    monkeypatch.setattr(evaluation_run._Work, "_keep", cancels)
    assert evaluate(str(job.pk))["status"] == "cancelled"
    first = list(EvaluationRow.objects.values_list("pk", flat=True))
    assert first
    job.retry()
    monkeypatch.setattr(evaluation_run._Work, "_keep", kept)
    assert evaluate(str(job.pk))["status"] == "succeeded"
    assert EvaluationRow.objects.count() == version.split_counts["test"]
    assert set(first) <= set(EvaluationRow.objects.values_list("pk", flat=True))
