"""`manage.py ocr_engines`: what it says of engines that work, fail, or aren't there."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from mlops.exceptions import NotInstalled
from ocr.selftest import drawn_pages
from tests.fakes import FakeOcrEngine

GOOD = {"BACKEND": "ocr.engines.tesseract.TesseractEngine"}
MISREADING = {"BACKEND": "tests.fakes.FakeOcrEngine"}
WITHOUT_MODEL = {"BACKEND": "tests.fakes.MissingOcrEngine"}
ABSENT = {"BACKEND": "tests.ocr.test_ocr_engines.AbsentEngine"}
BROKEN = {"BACKEND": "tests.ocr.test_ocr_engines.BrokenEngine"}


class AbsentEngine(FakeOcrEngine):
    """Its library is not installed."""

    def __init__(self, **_: Any) -> None:
        raise NotInstalled("pip install -r requirements/ocr-paddle.txt")


class BrokenEngine(FakeOcrEngine):
    """Its library raises what nobody expects."""

    def read(self, image: object, *, languages: tuple[str, ...]) -> object:
        raise IndexError("list index out of range")


def run(settings, *args: str, **entries: dict[str, Any]) -> str:
    settings.ENGINES = {"ocr": entries}
    out = StringIO()
    call_command("ocr_engines", *args, stdout=out, no_color=True)
    return out.getvalue()


def test_a_table_of_what_is_there(settings) -> None:
    shown = run(settings, good=GOOD, absent=ABSENT)
    lines = shown.splitlines()
    (head,) = [n for n, line in enumerate(lines) if line.startswith("ENGINE")]
    assert "CPU core" in "".join(lines[:head])
    good, absent = (
        next(line for line in lines if line.startswith(name)) for name in ("good", "absent")
    )
    for heading, cell in (("STATE", "ok"), ("DEVICE", "cpu tesseract"), ("MODEL", "tesseract 5")):
        assert good[lines[head].index(heading) :].startswith(cell)
    assert good.endswith(("0.000", "0.001", "0.002", "0.003"))
    assert len(good) == len(lines[head])
    assert "tessdata" in shown
    assert absent.split() == ["absent", "missing"]
    assert "    pip install -r requirements/ocr-paddle.txt" in lines


def test_all_of_it_as_json(settings) -> None:
    report = json.loads(run(settings, "--json", good=GOOD, absent=ABSENT))
    good, absent = report["engines"]
    assert (good["state"], absent["state"]) == ("ok", "missing")
    assert "en" in good["languages"]
    assert {trial["language"] for trial in good["trials"]} >= {"en"}
    assert all(trial["cer"] < 0.02 and trial["seconds"] > 0 for trial in good["trials"])


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (MISREADING, "It misreads a clean page: CER "),
        (WITHOUT_MODEL, "Install it: pip install"),
        (BROKEN, "IndexError: list index out of range"),
    ],
    ids=["misreads", "no model", "raises"],
)
def test_one_that_fails_is_told_by_the_exit_status(
    settings, entry: dict[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.ENGINES = {"ocr": {"bad": entry, "good": GOOD}}
    out = StringIO()
    with pytest.raises(CommandError, match=r"^Failed: bad\.$"):
        call_command("ocr_engines", stdout=out, no_color=True)
    assert said in out.getvalue()
    # The others are tried all the same.
    assert "tesseract 5" in out.getvalue()


def test_without_a_trial_a_page_is_not_read(settings) -> None:
    shown = run(settings, "--no-test", broken=BROKEN)
    assert "ok" in shown
    assert "fake-1" in shown


def test_some_by_name(settings) -> None:
    assert "good" not in run(settings, "absent", good=GOOD, absent=ABSENT)
    with pytest.raises(CommandError, match=r"no engine best\. Choose among: good, absent"):
        run(settings, "best", good=GOOD, absent=ABSENT)


def test_pages_are_made_of_what_an_engine_can_spell() -> None:
    (page,) = drawn_pages(["en"], frozenset("0123456789 "))
    assert set(page.truth) <= set("0123456789 \n")
    (page,) = drawn_pages(["en"], frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ "))
    assert len(page.truth.split()) > 30
    assert page.truth.isupper()
    assert [page.language for page in drawn_pages(["fi", "ko"])] == ["fi", "ko"]
    assert [page.language for page in drawn_pages(["th"])] == ["th"]
