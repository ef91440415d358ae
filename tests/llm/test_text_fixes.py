"""Corrections by a model: kept beside what was read, bounded, measured, taken over by people."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from llm import held
from llm.correction import tasks
from llm.correction.differences import Piece, differences
from llm.correction.guard import refusal
from llm.correction.windows import WINDOW, corrected
from llm.models import LanguageModel, PageFix, TextFix
from llm.services import text_fixes as services
from mlops import engines
from mlops.exceptions import ApplicationError, NotAllowed
from mlops.models import ApiKey, User
from ocr import runner
from ocr import services as ocr_services
from ocr.models import Correction, OcrJob, PageResult
from tests.factories import OcrJobFactory, StaffFactory, UserFactory
from tests.llm.library import document_of, read_document

READ = ["Annua1 rep0rt", "of the reading roorn", "12,500 won", "Kept as it is"]
FIXES = {
    READ[0]: "Annual report",
    READ[1]: "of the reading room",
    READ[2]: "A line that nobody ever wrote on this page",
}
BASE = "/api/v1/llm/corrections"


@pytest.fixture
def scripted(settings, db: None) -> Iterator[Callable[..., LanguageModel]]:
    """`scripted(fixes=…)`: a model that corrects just so."""

    def make(**options: Any) -> LanguageModel:
        settings.ENGINES = {
            **settings.ENGINES,
            "llm": {
                "scripted": {
                    "BACKEND": "tests.llm.library.ScriptedEngine",
                    "OPTIONS": {"fixes": FIXES, **options},
                }
            },
        }
        return LanguageModel.objects.create(name="corrector", engine="scripted", source="x")

    engines._caches.clear()
    yield make
    held.holder.close()
    engines._caches.clear()


@pytest.fixture
def model(scripted: Callable[..., LanguageModel]) -> LanguageModel:
    return scripted()


def correct(result: PageResult, **options: Any) -> TextFix:
    job = services.text_fix_submit(
        ocr_job=result.job, model="corrector", owner=result.job.owner, **options
    )
    assert tasks.correct_text(str(job.pk))["status"] == "succeeded", TextFix.objects.get().error
    job.refresh_from_db()
    return job


def client_of(user: User) -> Client:
    _key, token = ApiKey.objects.create(user=user)
    return Client(headers={"Authorization": f"Bearer {token}"})


# -- how far a model may go -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "refused"),
    [
        ("rep0rt", "report", False),
        ("1O", "10", False),
        ("ab", "xy", False),
        ("abc", "xyz", True),
        ("the same", "the same and very much more than that", True),
        ("anything", "", True),
    ],
)
def test_runaway_changes_are_refused(before: str, after: str, refused: bool) -> None:
    assert bool(refusal(before, after, max_change=0.3)) == refused


def test_differences_go_down_both_texts() -> None:
    found = differences("the rep0rt of May", "the report of last May")
    assert found == [
        *(Piece("same", "the"), Piece("gone", "rep0rt"), Piece("new", "report")),
        *(Piece("same", "of"), Piece("new", "last"), Piece("same", "May")),
    ]
    for kinds, text in ((("same", "gone"), "a b c"), (("same", "new"), "a x c d")):
        pieces = differences("a b c", "a x c d")
        assert " ".join(piece.text for piece in pieces if piece.kind in kinds) == text
    assert differences("", "") == []


def test_windows_without_an_answer_are_halved() -> None:
    asked: list[int] = []

    def ask(lines: Any) -> list[str] | None:
        asked.append(len(lines))
        if "bad" in lines or len(lines) > 4:
            return None
        return [f" {line.upper()}\n" for line in lines]

    lines = [*"abcdefg", "bad"]
    assert corrected(lines, ask) == [*"ABCDEFG", None]
    assert asked == [8, 4, 4, 2, 2, 1, 1]
    checked: list[int] = []
    long = ["x"] * (2 * WINDOW + 1)
    assert len(corrected(long, lambda some: list(some), check=lambda: checked.append(1))) == 49
    assert len(checked) == 2


# -- jobs -----------------------------------------------------------------------------------------


def test_changes_are_kept_beside_the_text(model: LanguageModel) -> None:
    result = read_document(READ)
    job = correct(result)
    page = job.pages.get()
    assert [(line["line"], line["after"]) for line in page.lines if not line["refused"]] == [
        (0, FIXES[READ[0]]),
        (1, FIXES[READ[1]]),
    ]
    assert (page.changed, page.refused) == (2, 1)
    assert "characters would change" in page.lines[2]["refused"]
    result.refresh_from_db()
    assert [line["text"] for line in result.lines] == READ, "what was read stays"
    assert job.prompt_tokens > 0 and job.completion_tokens > 0
    assert (job.progress_done, job.progress_total) == (1, 1)


def test_pages_are_not_corrected_twice(model: LanguageModel) -> None:
    result = read_document(READ)
    job = correct(result)
    TextFix.objects.filter(pk=job.pk).update(status="queued")
    tasks.correct_text(str(job.pk))
    assert PageFix.objects.count() == 1
    asked = held.get(model).loaded().prompts
    assert len(asked) == 1


def test_answers_that_are_none_leave_the_text(
    scripted: Callable[..., LanguageModel],
) -> None:
    scripted(most=1)
    page = correct(read_document(READ)).pages.get()
    assert page.changed == 2, "one by one they are answered"
    held.holder.close()
    engines._caches.clear()
    LanguageModel.objects.all().delete()
    scripted(most=0)
    page = correct(read_document(READ)).pages.get()
    assert (page.changed, page.refused) == (0, 4)
    assert {line["refused"] for line in page.lines} == {"The model gave no answer for it."}


def test_what_can_not_be_corrected_is_said(model: LanguageModel) -> None:
    with pytest.raises(NotAllowed, match="read no page"):
        services.text_fix_submit(ocr_job=OcrJobFactory(), model="corrector", owner=None)
    result = read_document(READ)
    with pytest.raises(ApplicationError, match="does not exist"):
        services.text_fix_submit(ocr_job=result.job, model="nobody", owner=None)
    with pytest.raises(ApplicationError, match="not within"):
        services.text_fix_submit(ocr_job=result.job, model="corrector", owner=None, page_range="9")
    LanguageModel.objects.update(task="embeddings")
    with pytest.raises(ApplicationError, match="makes embeddings"):
        services.text_fix_submit(ocr_job=result.job, model="corrector", owner=None)


# -- taken over by people -------------------------------------------------------------------------


def test_accepted_changes_are_corrections(model: LanguageModel) -> None:
    user = UserFactory()
    result = read_document(READ, owner=user)
    page = correct(result).pages.get()
    review = ocr_services.review_begin(result=result)
    ocr_services.line_edit(
        review=review, user=user, version=0, line_id="2", text="of the room for reading"
    )
    done = services.text_fix_accept(page=page, user=user)
    assert (done.lines, done.skipped) == (1, 1)
    done.review.refresh_from_db()
    assert [line["text"] for line in done.review.lines] == [
        *(FIXES[READ[0]], "of the room for reading", READ[2], READ[3]),
    ]
    correction = Correction.objects.order_by("-version").first()
    assert (correction.user, correction.before, correction.after) == (
        *(user, READ[0], FIXES[READ[0]]),
    )
    assert PageFix.objects.get().lines[0]["accepted"] == user.username
    again = services.text_fix_accept(page=PageFix.objects.get(), user=user)
    assert again.lines == 0
    result.refresh_from_db()
    assert result.lines[0]["text"] == READ[0]


def test_a_refused_line_may_be_accepted_by_name(model: LanguageModel) -> None:
    user = UserFactory()
    page = correct(read_document(READ, owner=user)).pages.get()
    done = services.text_fix_accept(page=page, user=user, lines=[2])
    assert done.lines == 1 and done.review.line("3")["text"] == FIXES[READ[2]]


def test_nobody_accepts_for_somebody_else(model: LanguageModel) -> None:
    page = correct(read_document(READ)).pages.get()
    with pytest.raises(ApplicationError, match="may not review"):
        services.text_fix_accept(page=page, user=UserFactory())
    assert not Correction.objects.exists()


# -- measured -------------------------------------------------------------------------------------


def accepted(result: PageResult, *texts: str) -> None:
    """Somebody reviews the page, as these lines."""
    user = StaffFactory(is_superuser=True)
    review = ocr_services.review_begin(result=result)
    for number, text in enumerate(texts, 1):
        done = ocr_services.line_edit(
            review=review, user=user, version=review.version, line_id=str(number), text=text
        )
        review = done.review if done else review
    ocr_services.review_accept(review=review, user=user, version=review.version)


def test_it_is_measured_on_accepted_pages(model: LanguageModel, capsys: Any) -> None:
    with pytest.raises(CommandError, match="No page has been accepted"):
        call_command("llm_evaluate_correction", model="corrector")
    result = read_document(READ)
    accepted(result, FIXES[READ[0]], FIXES[READ[1]])
    read_document(READ)
    call_command("llm_evaluate_correction", "--model", "corrector", "--json")
    figures = json.loads(capsys.readouterr().out)
    assert figures["pages"] == 1 and figures["better"] == 1
    assert (figures["errors_before"], figures["errors_after"]) == (4, 0)
    assert figures["cer_after"] == 0 < figures["cer_before"]
    job = TextFix.objects.get()
    assert job.figures()["cer_after"] == 0 and job.figures()["pages_scored"] == 1
    assert job.run_record().metrics["cer_before"] == figures["cer_before"]


def test_a_model_that_spoils_texts_is_called_out(model: LanguageModel, capsys: Any) -> None:
    accepted(read_document(READ), *READ)
    call_command("llm_evaluate_correction", "--model", "corrector")
    said = capsys.readouterr().out
    assert "It makes texts worse here" in said and "Pages worse" in said


def test_nothing_is_corrected_unasked(model: LanguageModel, settings) -> None:
    result = read_document(READ)
    job = result.job
    OcrJob.objects.filter(pk=job.pk).update(status="running", progress_total=1)
    runner.summarise(OcrJob.objects.get(pk=job.pk))
    assert not TextFix.objects.exists()
    settings.LLM_AUTO_CORRECT = "corrector"
    runner.summarise(OcrJob.objects.get(pk=job.pk))
    runner.summarise(OcrJob.objects.get(pk=job.pk))
    fix = TextFix.objects.get()
    assert fix.after_id == job.pk and fix.owner == job.owner
    settings.LLM_AUTO_CORRECT = "nobody"
    runner.summarise(OcrJob.objects.get(pk=job.pk))
    assert TextFix.objects.count() == 1, "a reading goes well without its correction"


# -- the API --------------------------------------------------------------------------------------


def test_api(model: LanguageModel) -> None:
    user = UserFactory()
    result = read_document(READ, owner=user)
    client = client_of(user)

    def post(path: str, body: dict[str, Any]) -> Any:
        return client.post(f"{BASE}/{path}", body, content_type="application/json")

    answer = post("", {"document": str(document_of(result).pk), "model": "corrector"})
    assert answer.status_code == 202, answer.content
    made = answer.json()
    assert made["status"] == "queued" and answer["Location"] == made["url"]
    tasks.correct_text(made["id"])
    assert client.get(f"{BASE}/{made['id']}").json()["figures"]["lines_changed"] == 2
    [page] = client.get(f"{BASE}/{made['id']}/pages").json()["pages"]
    assert page["lines"][0]["differences"] == [
        {"kind": "gone", "text": READ[0]},
        {"kind": "new", "text": FIXES[READ[0]]},
    ]
    done = post(f"{made['id']}/pages/1/accept", {"lines": [0]})
    assert done.json()["accepted"] == 1 and done.json()["lines"][0]["accepted"] == user.username
    assert post("", {"model": "corrector"}).status_code == 400
    assert post("", {"job": made["id"], "model": "corrector"}).status_code == 404
    stranger = client_of(UserFactory())
    assert stranger.get(f"{BASE}/{made['id']}").status_code == 404
    assert stranger.get(f"{BASE}/").json()["count"] == 0
    other = {"document": str(document_of(result).pk), "model": "corrector"}
    assert stranger.post(f"{BASE}/", other, content_type="application/json").status_code == 404
    assert post(f"{made['id']}/cancel", {}).status_code == 409


# -- the console ----------------------------------------------------------------------------------


def test_console(model: LanguageModel) -> None:
    user = StaffFactory(role="annotator")
    result = read_document(READ, owner=user)
    read_document(READ)
    console = Client()
    console.force_login(user)
    start = console.get(f"/admin/llm/textfix/add/?reading={result.job_id}").content.decode()
    assert start.count('<option value="') == 3, "nothing, one's own reading, and the model"
    assert f'<option value="{result.job_id}" selected>' in start
    chosen = {"reading": str(result.job_id), "model": "corrector", "page_range": "7"}
    assert (
        "not within the document"
        in console.post("/admin/llm/textfix/add/", chosen).content.decode()
    )
    sent = console.post("/admin/llm/textfix/add/", chosen | {"page_range": ""})
    job = TextFix.objects.get()
    assert sent.status_code == 302 and str(job.pk) in sent["Location"]
    tasks.correct_text(str(job.pk))
    assert "Page 1" in console.get(sent["Location"]).content.decode()
    assert "2 (1 refused)" in console.get("/admin/llm/textfix/").content.decode()

    url = f"/admin/llm/textfix/{job.pk}/pages/1/"
    shown = console.get(url).content.decode()
    assert "<del>rep0rt</del>" not in shown and f"<del>{READ[0]}</del>" in shown
    assert "<ins>room</ins>" in shown and "Not taken: " in shown
    assert console.get(f"/admin/llm/textfix/{job.pk}/pages/2/").status_code == 404
    nothing = console.post(url, follow=True)
    assert "Tick the lines" in nothing.content.decode()
    taken = console.post(url, {"lines": ["0"]}, follow=True).content.decode()
    assert "1 line taken over" in taken and f"Taken over by {user.username}" in taken
    assert Correction.objects.get().after == FIXES[READ[0]]

    stranger = Client()
    stranger.force_login(StaffFactory(role="annotator"))
    assert stranger.get(url).status_code == 404
    nobody = Client()
    nobody.force_login(StaffFactory())
    assert nobody.get(url).status_code == 403
    assert nobody.get("/admin/llm/textfix/add/").status_code == 403


def test_with_a_real_model(settings, db: None, random_model: Path) -> None:
    """Random weights under a grammar: answers that are whole are refused, and nothing breaks."""
    transformers = {"BACKEND": "llm.engines.transformers.TransformersEngine"}
    settings.ENGINES = {**settings.ENGINES, "llm": {"transformers": transformers}}
    engines._caches.clear()
    LanguageModel.objects.create(name="corrector", source=str(random_model))
    try:
        page = correct(read_document(READ)).pages.get()
    finally:
        held.holder.close()
        engines._caches.clear()
    assert (page.changed, page.refused) == (0, len(READ))
    assert page.fix.completion_tokens > 0
