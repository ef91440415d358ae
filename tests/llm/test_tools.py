"""Tool calls told from text, in whatever pieces it comes, and grammars that force them."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from llm.tiny.vocabulary import CHAT_TEMPLATE
from llm.tools import (
    HERMES,
    LLAMA3,
    MISTRAL,
    CallArguments,
    CallStart,
    Text,
    ToolCallReader,
    detect_format,
    tool_grammar,
)

WEATHER = {"name": "weather", "arguments": {"city": "서울", "note": 'a "}" </tool_call> \\'}}
CLOCK = {"name": "clock", "arguments": {}}


def hermes(*calls: dict[str, Any]) -> str:
    return "\n".join(
        f"<tool_call>\n{json.dumps(call, ensure_ascii=False)}\n</tool_call>" for call in calls
    )


def read(pieces: list[str], tool_format: str, *, forced: bool = False) -> tuple[str, list[Any]]:
    """The answer's text, and its calls as (name, arguments' text)."""
    reader = ToolCallReader(tool_format, forced=forced)
    told = [piece for text in pieces for piece in reader.feed(text)] + reader.finish()
    texts, calls, ids = [], [], set()
    for piece in told:
        match piece:
            case Text(text):
                texts.append(text)
            case CallStart(index, identity, name):
                assert index == len(calls)
                ids.add(identity)
                calls.append([name, ""])
            case CallArguments(index, fragment):
                assert index == len(calls) - 1
                assert fragment
                calls[index][1] += fragment
    assert len(ids) == len(calls) == reader.calls
    return "".join(texts), [tuple(call) for call in calls]


def cuts(text: str, random: Random) -> list[str]:
    """The text in pieces of one to eight characters."""
    pieces = []
    while text:
        size = random.randint(1, 8)
        pieces.append(text[:size])
        text = text[size:]
    return pieces


ANSWERS = [
    (HERMES, "Hello.\n\nHow < are <tool you?\n", "Hello.\n\nHow < are <tool you?\n", []),
    (HERMES, hermes(WEATHER), "", [WEATHER]),
    (HERMES, f"I look.\n{hermes(WEATHER, CLOCK)}", "I look.", [WEATHER, CLOCK]),
    (HERMES, f"{hermes(CLOCK)}\n\n{hermes(WEATHER)}\n", "", [CLOCK, WEATHER]),
    (HERMES, '<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>', "", [("f", {"a": 1})]),
    (HERMES, '<tool_call>{"name": "f", "arguments": "{}"}</tool_call>', "", [("f", {})]),
    (HERMES, '<tool_call>{"name": "f"}</tool_call>', "", [("f", {})]),
    (LLAMA3, '{"name": "f", "parameters": {"city": "Oslo"}}', "", [("f", {"city": "Oslo"})]),
    (LLAMA3, "Just text {with braces}.", "Just text {with braces}.", []),
    (LLAMA3, '{"total": 3}', '{"total": 3}', []),
    (MISTRAL, f"[TOOL_CALLS] [{json.dumps(WEATHER)}, {json.dumps(CLOCK)}]", "", [WEATHER, CLOCK]),
    (MISTRAL, "A [list] of things", "A [list] of things", []),
    ("", hermes(WEATHER), hermes(WEATHER), []),
]  # fmt: skip


@pytest.mark.parametrize(("tool_format", "answer", "text", "calls"), ANSWERS)
def test_calls_and_text_in_any_pieces(
    tool_format: str, answer: str, text: str, calls: list[Any]
) -> None:
    wanted = [
        (call["name"], call["arguments"]) if isinstance(call, dict) else call for call in calls
    ]
    random = Random(answer)
    for pieces in ([answer], list(answer), *(cuts(answer, random) for _ in range(20))):
        said, made = read(pieces, tool_format)
        assert said == text
        assert [(name, json.loads(arguments)) for name, arguments in made] == wanted


@pytest.mark.parametrize(
    ("tool_format", "answer", "text"),
    [
        (HERMES, "<tool_call>\nno JSON\n</tool_call>", "<tool_call>no JSON\n</tool_call>"),
        (HERMES, '<tool_call>\n{"city": 1}\n</tool_call>', '<tool_call>{"city": 1}'),
        (HERMES, '<tool_call>{"na', '<tool_call>{"na'),
        (HERMES, "so <tool_ca", "so <tool_ca"),
        (HERMES, "so <tool_call>", "so <tool_call>"),
        (LLAMA3, '{"name": ', '{"name": '),
        (MISTRAL, "[TOOL_CALLS] nothing", "[TOOL_CALLS]nothing"),
    ],
)
def test_what_is_no_call_is_given_out_as_text(tool_format: str, answer: str, text: str) -> None:
    for pieces in ([answer], list(answer)):
        said, calls = read(pieces, tool_format)
        assert (said, calls) == (text, [])


def test_text_comes_as_it_is_written_and_so_do_arguments() -> None:
    reader = ToolCallReader(HERMES)
    assert reader.feed("I am ") == [Text("I am ")]
    assert reader.feed("here.") == [Text("here.")]
    assert reader.feed('\n<tool_call>\n{"name": "f"') == []
    start, arguments = reader.feed(', "arguments": {"city": "Se')
    assert (start.index, start.name) == (0, "f")
    assert arguments == CallArguments(0, '{"city": "Se')
    assert reader.feed('oul"}') == [CallArguments(0, 'oul"}')]
    assert reader.feed("}\n</tool_call>") == []
    assert reader.finish() == []


def test_a_call_that_is_cut_keeps_what_was_told() -> None:
    said, calls = read(['<tool_call>{"name": "f", "arguments": {"city": "Se'], HERMES)
    assert (said, calls) == ("", [("f", '{"city": "Se')])


def test_a_broken_call_behind_a_good_one_is_text() -> None:
    for pieces in ([f"{hermes(CLOCK)}\n<tool_call>oh"], [*hermes(CLOCK), *"\n<tool_call>oh"]):
        said, calls = read(pieces, HERMES)
        assert (said, [name for name, _ in calls]) == ("<tool_call>oh", ["clock"])


def test_forced_calls_of_mistral_have_no_mark() -> None:
    answer = f"[{json.dumps(WEATHER)}, {json.dumps(CLOCK)}]"
    _, calls = read(list(answer), MISTRAL, forced=True)
    assert [name for name, _ in calls] == ["weather", "clock"]
    assert read([answer], MISTRAL) == (answer, [])


@pytest.mark.parametrize(
    ("template", "tool_format"),
    [
        (CHAT_TEMPLATE, HERMES),
        ("{{ messages }}", ""),
        ("{% if tools %}<tool_call>\n<function=name>{% endif %}", ""),
        ("{% if tools %}[AVAILABLE_TOOLS]{% endif %}[TOOL_CALLS]", MISTRAL),
        ("{% if tools %}ipython {\"name\": .., \"parameters\": ..}{% endif %}", LLAMA3),
        ("{% if tools %}{{ tools }}{% endif %}", ""),
    ],
)  # fmt: skip
def test_the_form_of_calls_is_found_in_the_template(template: str, tool_format: str) -> None:
    assert detect_format(template) == tool_format


def function(name: str, parameters: Any = None) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def test_nothing_is_forced_unless_asked_for() -> None:
    for choice in (None, "auto", "none"):
        assert tool_grammar(HERMES, [function("f")], choice) is None


def test_a_named_tool_is_the_only_one() -> None:
    named = {"type": "function", "function": {"name": "b"}}
    grammar = tool_grammar(HERMES, [function("a"), function("b")], named)
    assert grammar is not None
    assert '{"const": "b"}' in grammar.text
    assert '{"const": "a"}' not in grammar.text


def test_arguments_are_objects_and_keep_their_references() -> None:
    parameters = {"properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"type": "null"}}}
    grammar = tool_grammar(LLAMA3, [function("f", parameters)], "required")
    assert grammar is not None
    schema = json.loads(grammar.text.rpartition("%json ")[2])
    moved = schema["properties"]["parameters"]
    assert moved["type"] == "object"
    assert moved["properties"]["a"] == {"$ref": "#/properties/parameters/$defs/x"}
