"""The engine that asks a model: what it is told, in how many pieces, and how often."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llm.engines.base import GenerationRequest, ModelSource, Usage
from llm.extraction.base import Task
from llm.extraction.model import ModelEngine
from llm.extraction.windows import merged, windows
from mlops.exceptions import JobFailed
from tests.fake_language import FakeLanguageEngine, FakeLanguageModel
from tests.llm.papers import RECEIPT, pages_of_texts

SCHEMA = {
    "type": "object",
    "properties": {"total": {"type": "number"}, "items": {"type": "array"}},
    "required": ["total"],
}


@dataclass(frozen=True)
class Said:
    text: str

    @property
    def usage(self) -> Usage:
        return Usage(10, 3)


@pytest.fixture
def load() -> Iterator[Callable[[int], FakeLanguageModel]]:
    loaded: list[FakeLanguageModel] = []

    def make(context: int = 1000) -> FakeLanguageModel:
        source = ModelSource("small", "somewhere", context_length=context)
        loaded.append(FakeLanguageEngine().load(source))
        return loaded[-1]

    yield make
    for model in loaded:
        model.close()


class Scripted:
    """Answers one text after the other, and keeps what it was asked."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.requests: list[GenerationRequest] = []

    def __call__(self, request: GenerationRequest) -> Said:
        self.requests.append(request)
        return Said(self.answers.pop(0))

    def asked(self, number: int = -1) -> str:
        return str(self.requests[number].messages[-1]["content"])


def test_the_text_goes_with_numbered_lines_the_schema_and_the_examples(load) -> None:
    ask = Scripted('{"total": 25.55}')
    examples = [{"text": "Total 1.00\nBye", "values": {"total": 1.0}}]
    task = Task(SCHEMA, "Sums are in ringgit.", examples)
    found = ModelEngine("small", load(), ask).extract(pages_of_texts(RECEIPT), task)
    assert found.values == {"total": 25.55} and found.problems == ()
    assert (found.tries, found.windows) == (1, 1)
    assert (found.prompt_tokens, found.completion_tokens) == (10, 3)
    system, shown, answered, asked = ask.requests[0].messages
    assert "Sums are in ringgit." in system["content"]
    assert '"required":["total"]' in system["content"]
    assert shown["content"] == "1| Total 1.00\n2| Bye"
    assert json.loads(answered["content"]) == {"total": 1.0}
    assert asked["content"].startswith("1| MILL STREET BAKERY SDN BHD\n2| (519537-X)")
    sampling = ask.requests[0].sampling
    assert sampling.temperature == 0 and sampling.grammar.kind == "json_schema"
    assert json.loads(sampling.grammar.text) == SCHEMA


def test_an_answer_that_breaks_the_schema_is_asked_for_once_more(load) -> None:
    ask = Scripted('{"total": "much"}', '{"total": 2}')
    found = ModelEngine("small", load(), ask).extract(pages_of_texts(("a",)), Task(SCHEMA))
    assert found.values == {"total": 2} and found.tries == 2 and found.prompt_tokens == 20
    assert "/total: 'much' is not of type 'number'" in ask.asked()


def test_twice_broken_is_kept_with_its_problems(load) -> None:
    ask = Scripted("{}", '{"items": []}')
    found = ModelEngine("small", load(), ask).extract(pages_of_texts(("a",)), Task(SCHEMA))
    assert found.values == {"items": []} and found.tries == 2
    assert "'total' is a required property" in found.problems[0]["message"]


@pytest.mark.parametrize("text", ['{"total": 1', "[1]", "no idea"])
def test_twice_no_object_fails_clearly(load, text: str) -> None:
    ask = Scripted(text, text)
    with pytest.raises(JobFailed, match="no whole JSON object") as failure:
        ModelEngine("small", load(), ask).extract(pages_of_texts(("a",)), Task(SCHEMA))
    assert failure.value.code == "invalid_answer"


def test_a_long_document_is_cut_and_the_pieces_are_merged(load) -> None:
    ask = Scripted(
        '{"total": 0, "items": [1]}', '{"total": 5, "items": [1, 2]}', '{"total": 7, "items": [3]}'
    )
    lines = tuple(f"line number {n} of the paper" for n in range(60))
    model = load(450)
    found = ModelEngine("small", model, ask).extract(pages_of_texts(lines), Task(SCHEMA))
    assert found.windows == 3 and found.values == {"total": 0, "items": [1, 2, 3]}
    for request in ask.requests:
        prompt = sum(model.count(one["content"]) for one in request.messages)
        assert prompt + request.sampling.max_tokens <= 450
    texts = [ask.asked(number).splitlines() for number in range(3)]
    assert texts[0][0].startswith("1| ") and texts[-1][-1].startswith("60| ")
    assert set().union(*texts) == {f"{n + 1}| line number {n} of the paper" for n in range(60)}
    # The pieces overlap a little: a value may stand on a border.
    assert texts[0][-1] in texts[1]


def test_pages_are_named_where_there_are_several(load) -> None:
    ask = Scripted('{"total": 1}')
    ModelEngine("small", load(), ask).extract(pages_of_texts(("a",), ("b",)), Task(SCHEMA))
    assert ask.asked() == "--- page 1 ---\n1| a\n--- page 2 ---\n2| b"


def test_a_context_that_holds_no_text_is_refused(load) -> None:
    with pytest.raises(JobFailed, match="Shorten them") as failure:
        ModelEngine("small", load(120), Scripted()).extract(pages_of_texts(("a",)), Task(SCHEMA))
    assert failure.value.code == "context_length_exceeded"


def test_a_window_is_never_empty_nor_too_large() -> None:
    def count(text: str) -> int:
        return len(text.split())

    assert windows(["a b", "c"], count=count, most=100) == [["a b", "c"]]
    assert windows(["a b c d e f", "g"], count=count, most=3) == [["a b c d e f"], ["g"]]
    cut = windows([f"w{n}" for n in range(50)], count=count, most=20)
    assert all(len(piece) <= 10 for piece in cut)
    assert cut[0][-1] == cut[1][0] and cut[-1][-1] == "w49"


def test_of_several_pieces_the_first_that_says_a_value_has_it() -> None:
    parts: list[dict[str, Any]] = [
        {"a": None, "b": 1, "c": {"d": "", "e": 2}, "f": [1, 2]},
        {"a": "x", "b": 9, "c": {"d": "y", "e": 3}, "f": [2, 3], "g": False},
    ]
    assert merged(parts) == {"a": "x", "b": 1, "c": {"d": "y", "e": 2}, "f": [1, 2, 3], "g": False}


def test_a_model_with_random_weights_answers_by_the_schema(random_model: Path) -> None:
    """Constrained decoding holds whatever the model would rather say."""
    from llm.engines.transformers import TransformersEngine

    schema = {
        "type": "object",
        "properties": {
            "paid": {"type": "boolean"},
            "kind": {"type": "string", "enum": ["cash", "card"]},
            "count": {"type": "integer", "minimum": 0, "maximum": 9},
        },
        "required": ["paid", "kind", "count"],
        "additionalProperties": False,
    }
    loaded = TransformersEngine(threads=1).load(ModelSource("random", str(random_model)))
    try:
        engine = ModelEngine("random", loaded, lambda request: _wait(loaded, request))
        found = engine.extract(pages_of_texts(("paid by card",)), Task(schema))
    finally:
        loaded.close()
    assert found.problems == () and found.tries == 1
    assert set(found.values) == {"paid", "kind", "count"}


def _wait(loaded: Any, request: GenerationRequest) -> Any:
    from llm.ask import ask

    return ask(loaded, request)
