"""Bodies as OpenAI's clients send them: what is taken, what is refused, what is made of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm.engines.base import Grammar
from llm.openai.generation import chat_generation, completion_generations
from llm.openai.requests import ChatRequest, CompletionRequest, EmbeddingRequest
from llm.tools import HERMES
from mlops.exceptions import ApplicationError

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
SAY = [{"role": "user", "content": "Hi"}]


def chat(**fields: Any) -> ChatRequest:
    return ChatRequest.parse({"model": "m", "messages": SAY, **fields})


def refused(kind: Any, body: Any) -> ApplicationError:
    with pytest.raises(ApplicationError) as caught:
        made = kind.parse(body)
        if kind is ChatRequest:
            chat_generation(made, request_id="r", tool_format=HERMES)
        elif kind is CompletionRequest:
            completion_generations(made, request_id="r")
    assert caught.value.status == 400
    return caught.value


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"messages": None}, "messages", None),
        ({"messages": []}, "messages", None),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role", None),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            "messages[0].tool_call_id",
            "missing_required_parameter",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content[0].type",
            "unsupported_content",
        ),
        ({"model": ""}, "model", None),
        ({"temperature": 2.5}, "temperature", None),
        ({"temperature": "warm"}, "temperature", "invalid_type"),
        ({"top_p": -0.1}, "top_p", None),
        ({"n": 0}, "n", None),
        ({"max_tokens": 0}, "max_tokens", None),
        ({"max_completion_tokens": 1.5}, "max_completion_tokens", None),
        ({"stop": ["a", 3]}, "stop[1]", None),
        ({"stop": ""}, "stop", None),
        ({"seed": "x"}, "seed", None),
        ({"presence_penalty": 3}, "presence_penalty", None),
        ({"logit_bias": {"5": 101}}, "logit_bias", None),
        ({"logit_bias": {"five": 1}}, "logit_bias", None),
        ({"top_logprobs": 3}, "top_logprobs", None),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", None),
        ({"stream_options": {"include_usage": True}}, "stream_options", None),
        ({"response_format": {"type": "xml"}}, "response_format.type", None),
        (
            {"response_format": {"type": "json_schema"}},
            "response_format.json_schema.schema",
            "missing_required_parameter",
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"type": "nothing"}},
                }
            },
            "response_format.json_schema.schema",
            "invalid_json_schema",
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"minProperties": 2}},
                }
            },
            "response_format.json_schema.schema",
            "invalid_json_schema",
        ),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, None, None),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": 3}}}]},
            "tools[0].function.parameters",
            "invalid_json_schema",
        ),
        ({"tool_choice": "required"}, "tool_choice", None),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "other"}}},
            "tool_choice",
            None,
        ),
        ({"modalities": ["text", "audio"]}, "modalities", "unsupported_parameter"),
        ({"audio": {"voice": "x", "format": "wav"}}, "audio", "unsupported_parameter"),
        ({"functions": [{"name": "f"}]}, "functions", "unsupported_parameter"),
        ({"function_call": {"name": "f"}}, "function_call", "unsupported_parameter"),
    ],
)
def test_wrong_chats_are_refused_by_field(
    fields: dict[str, Any], param: str | None, code: str | None
) -> None:
    body = {"model": "m", "messages": SAY, **fields}
    error = refused(ChatRequest, {name: value for name, value in body.items() if value is not None})
    if param is not None:
        assert (error.param or "").startswith(param), error.param
    if code is not None:
        assert error.code == code
    assert error.message.endswith((".", "}")) or ":" in error.message


@pytest.mark.parametrize("body", [None, [], "x", 3])
def test_a_body_must_be_an_object(body: Any) -> None:
    assert refused(ChatRequest, body).code == "invalid_type"


def test_fields_that_ask_for_nothing_or_are_unknown_are_let_through() -> None:
    made = chat(
        modalities=["text"],
        functions=[],
        function_call="none",
        audio=None,
        store=True,
        service_tier="auto",
        user="kim",
        metadata={"a": "b"},
        no_such_field=1,
    )
    assert made.metadata == {"a": "b"}


def test_all_settings_reach_the_engine() -> None:
    request = chat_generation(
        chat(
            temperature=0,
            top_p=0.5,
            top_k=7,
            min_p=0.1,
            presence_penalty=1,
            frequency_penalty=-1,
            repetition_penalty=1.2,
            logit_bias={"17": -100, "4": 2.5},
            seed=3,
            stop=["a", "b"],
            n=4,
            logprobs=True,
            top_logprobs=2,
            max_tokens=5,
            max_completion_tokens=6,
            ignore_eos=True,
            chat_template_kwargs={"enable_thinking": False},
        ),
        request_id="r",
    )
    sampling = request.sampling
    assert (request.id, request.n) == ("r", 4)
    assert request.template_options == {"enable_thinking": False}
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p) == (6, 0, 0.5)
    assert (sampling.top_k, sampling.min_p, sampling.repetition_penalty) == (7, 0.1, 1.2)
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (1, -1)
    assert sampling.logit_bias == {17: -100, 4: 2.5}
    assert (sampling.seed, sampling.stop, sampling.logprobs) == (3, ("a", "b"), 2)
    assert sampling.ignore_eos


def test_what_is_not_said_has_openais_defaults() -> None:
    sampling = chat_generation(chat(), request_id="r").sampling
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens) == (1.0, 1.0, None)
    assert (sampling.logprobs, sampling.grammar, sampling.stop) == (None, None, ())
    text = CompletionRequest.parse({"model": "m", "prompt": "x"})
    (request,) = completion_generations(text, request_id="r")
    assert request.sampling.max_tokens == 16


def test_messages_of_all_roles_are_flattened() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    request = chat_generation(
        chat(
            messages=[
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "a"}]},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "content": "3", "tool_call_id": "c1"},
            ]
        ),
        request_id="r",
    )
    assert request.messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "a"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
            ],
        },
        {"role": "tool", "content": "3", "tool_call_id": "c1"},
    ]


@pytest.mark.parametrize(
    ("fields", "grammar"),
    [
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, Grammar("json_object")),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "strict": True, "schema": SCHEMA},
                }
            },
            Grammar("json_schema", json.dumps(SCHEMA)),
        ),
        ({"structured_outputs": {"regex": "a+"}}, Grammar("regex", "a+")),
        ({"structured_outputs": {"choice": ["a", "b"]}}, Grammar("lark", 'start: "a" | "b"')),
        ({"structured_outputs": {"json": SCHEMA}}, Grammar("json_schema", json.dumps(SCHEMA))),
    ],
)
def test_what_an_answer_must_look_like(fields: dict[str, Any], grammar: Grammar | None) -> None:
    assert chat_generation(chat(**fields), request_id="r").sampling.grammar == grammar


def test_tools_need_a_template_and_may_be_forced() -> None:
    with pytest.raises(ApplicationError, match="knows no tools") as caught:
        chat_generation(chat(tools=[TOOL]), request_id="r")
    assert (caught.value.param, caught.value.code) == ("tools", "tools_unsupported")
    free = chat_generation(chat(tools=[TOOL]), request_id="r", tool_format=HERMES)
    assert [tool["function"]["name"] for tool in free.tools] == ["weather"]
    assert free.sampling.grammar is None
    forced = chat(tools=[TOOL], tool_choice="required", response_format={"type": "json_object"})
    grammar = chat_generation(forced, request_id="r", tool_format=HERMES).sampling.grammar
    assert grammar is not None
    assert grammar.kind == "lark"
    off = chat(tools=[TOOL], tool_choice="none")
    assert chat_generation(off, request_id="r").tools == []


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("a", ["a"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], [[1, 2]]),
        ([[1], [2, 3]], [[1], [2, 3]]),
    ],
)
def test_prompts_and_inputs_in_all_four_forms(prompt: Any, prompts: list[Any]) -> None:
    text = CompletionRequest.parse({"model": "m", "prompt": prompt, "n": 2, "echo": True})
    requests = completion_generations(text, request_id="r")
    assert [request.prompt for request in requests] == prompts
    assert len({request.id for request in requests}) == len(prompts)
    assert all(request.n == 2 and request.echo for request in requests)
    assert EmbeddingRequest.parse({"model": "m", "input": prompt}).texts == prompts


@pytest.mark.parametrize(
    ("kind", "body", "param"),
    [
        (CompletionRequest, {"model": "m"}, "prompt"),
        (CompletionRequest, {"model": "m", "prompt": []}, "prompt"),
        (CompletionRequest, {"model": "m", "prompt": ["a"] * 65}, "prompt"),
        (CompletionRequest, {"model": "m", "prompt": "a", "best_of": 3}, "best_of"),
        (CompletionRequest, {"model": "m", "prompt": "a", "suffix": "b"}, "suffix"),
        (EmbeddingRequest, {"model": "m", "input": []}, "input"),
        (EmbeddingRequest, {"model": "m", "input": ["a", ""]}, "input"),
        (EmbeddingRequest, {"model": "m", "input": [["a"]]}, "input"),
        (EmbeddingRequest, {"model": "m", "input": "a", "encoding_format": "hex"}, "encoding"),
    ],
)
def test_wrong_prompts_and_inputs_are_refused(kind: Any, body: Any, param: str) -> None:
    assert (refused(kind, body).param or "").startswith(param)
