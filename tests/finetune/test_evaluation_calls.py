"""Evaluations of tool calls: what counts as the same call, and a model that has learned to call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetune.engines.scoring_calls import read_calls
from finetune.evaluation.calls import Call, call_counts, same_calls, same_json
from finetune.evaluation.scoring import counts_of, scores_of
from finetune.models import EvaluationRow
from finetune.services.evaluations import evaluation_submit
from finetune.tasks import evaluate
from llm.models import LanguageModel
from llm.tiny import lessons
from llm.tools import HERMES, LLAMA3
from mlops.models import User
from tests.finetune.conftest import Importer

TRAM = Call("find_tram", {"line": 7, "from": "Harbour", "stops": ["Mill", "Dome"]})


def marked(name: str, **arguments: Any) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def row(*calls: Call, said: str = "") -> dict[str, Any]:
    """A row in canonical form that should be answered by these calls."""
    answer: dict[str, Any] = {"role": "assistant", "content": said}
    if calls:
        answer["tool_calls"] = [
            {"type": "function", "function": {"name": one.name, "arguments": one.arguments}}
            for one in calls
        ]
    return {"messages": [{"role": "user", "content": "When?"}, answer]}


def figures(wanted: dict[str, Any], output: str, tool_format: str = HERMES) -> dict[str, float]:
    text, calls = read_calls(output, tool_format)
    answered = {"output": output} | ({"text": text, "calls": calls} if calls else {})
    return scores_of(counts_of("chat", wanted, answered, written=True))


# -- calls --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": 1, "b": [1, {"c": None}]}, {"b": [1.0, {"c": None}], "a": 1.0}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": 1}, {"a": "1"}, False),
        ({"a": [1, 2]}, {"a": [2, 1]}, False),
        ({"a": None}, {}, False),
        ("Dome", "dome", False),
    ],
)
def test_the_same_as_json(one: Any, other: Any, same: bool) -> None:
    assert same_json(one, other) is same and same_json(other, one) is same


def test_the_order_of_calls_says_nothing_unless_asked() -> None:
    other = Call("find_tram", {"line": 8})
    assert same_calls([TRAM, other], [other, TRAM])
    assert not same_calls([TRAM, other], [other, TRAM], ordered=True)
    assert not same_calls([TRAM, other], [TRAM, TRAM]) and not same_calls([TRAM], [])


def test_arguments_count_one_by_one() -> None:
    """One of three wrong and one too many: of four that were given or wanted, two are right."""
    made = Call("find_tram", {"from": "Harbour", "line": 9, "stops": ["Mill", "Dome"], "day": "Mo"})
    counts = call_counts([TRAM], [made])
    assert (counts["calls_exact"], counts["calls_name"], counts["calls"]) == (0, 1, 1)
    assert (counts["calls_arguments"], counts["call_arguments"]) == (2, 4)


def test_calls_are_paired_with_the_nearest_of_their_name() -> None:
    near, far = Call("find_tram", {"line": 7, "from": "Mill"}), Call("find_tram", {"line": 1})
    counts = call_counts([Call("find_tram", {"line": 1}), TRAM], [near, far])
    assert (counts["calls_name"], counts["calls_arguments"], counts["call_arguments"]) == (2, 2, 4)


def test_one_call_too_many_is_one_with_the_wrong_name() -> None:
    counts = call_counts([TRAM], [TRAM, Call("find_bus", {"line": 7})])
    assert (counts["calls_exact"], counts["calls_name"], counts["calls"]) == (0, 1, 2)


def test_calls_are_read_out_of_an_answer() -> None:
    said, calls = read_calls(f"One moment.\n{marked('find_tram', line=7)}", HERMES)
    assert said == "One moment." and calls == [{"name": "find_tram", "arguments": {"line": 7}}]
    said, calls = read_calls('{"name": "find_tram", "parameters": {"line": 7}}', LLAMA3)
    assert (said, calls) == ("", [{"name": "find_tram", "arguments": {"line": 7}}])
    _said, calls = read_calls('<tool_call>{"name": "find_tram", "arguments": {"line": ', HERMES)
    assert calls == [{"name": "find_tram", "arguments": None}]
    assert read_calls("No calls.", "") == ("No calls.", [])


# -- rows ---------------------------------------------------------------------------------------


def test_another_way_of_writing_the_same_call_is_right() -> None:
    arguments = dict(reversed(TRAM.arguments.items()))
    found = figures(row(TRAM), marked("find_tram", **arguments))
    assert found == {
        **dict.fromkeys(("exact", "strict", "calls_exact", "calls_name", "calls_arguments"), 1.0)
    }


def test_what_is_said_beside_a_call_counts_in_exact_match_alone() -> None:
    call = marked("find_tram", **TRAM.arguments)
    found = figures(row(TRAM, said="I look."), f"Let me see.\n{call}")
    assert (found["exact"], found["calls_exact"]) == (0.0, 1.0)
    assert figures(row(TRAM, said="I look."), f"i LOOK.\n{call}")["exact"] == 1.0


def test_no_call_and_no_answer_are_wrong_in_all() -> None:
    wrong = dict.fromkeys(("exact", "strict", "calls_exact", "calls_name", "calls_arguments"), 0.0)
    assert figures(row(TRAM), "At ten, I think.") == wrong
    assert scores_of(counts_of("chat", row(TRAM), {"error": "x"}, written=True)) == wrong


def test_a_call_where_none_should_be_made() -> None:
    found = figures(row(said="At ten."), marked("find_tram", line=7))
    assert (found["exact"], found["calls_exact"], found["calls_name"]) == (0.0, 0.0, 0.0)
    assert "calls_arguments" not in found
    # Rows that have nothing to do with tools have no such figures at all.
    assert set(figures(row(said="At ten."), "At nine.")) == {"exact", "strict"}


# -- a model ------------------------------------------------------------------------------------


@pytest.mark.timeout(400)
@pytest.mark.django_db(transaction=True)
def test_a_model_that_calls(
    imported: Importer, owner: User, trained_model: Path, settings: Any, tmp_path: Path
) -> None:
    """It writes calls in its template's form; the rows hold them as OpenAI's."""
    settings.TRAINING_FOLDER = tmp_path / "training"
    LanguageModel.objects.create(name="pupil", source=str(trained_model), dtype="float32")
    asked = {one.question: one for one in lessons(23, 8) if one.tools}
    rows = []
    for one in asked.values():
        call = json.loads(one.answer.removeprefix("<tool_call>").removesuffix("</tool_call>"))
        function = {"name": call["name"], "arguments": json.dumps(call["arguments"], indent=2)}
        answer = {"role": "assistant", "content": None, "tool_calls": [{"function": function}]}
        rows.append(
            {
                "messages": [{"role": "user", "content": one.question}, answer],
                "tools": list(one.tools),
                "split": "test",
            }
        )
    version = imported(rows, "calls")
    job = evaluation_submit(
        owner=owner, dataset_version=version, models=["pupil"], max_tokens=60, samples=100
    )
    assert evaluate(str(job.pk))["status"] == "succeeded"
    job.refresh_from_db()
    found = job.result["sides"][0]["figures"]
    for name in ("calls_exact", "calls_name", "calls_arguments", "exact"):
        assert found[name]["value"] > 0.9 and found[name]["low"] < 1 == found[name]["high"], name
    assert found["calls_exact"]["n"] == len(rows)
    assert EvaluationRow.objects.first().output.startswith("<tool_call>")
