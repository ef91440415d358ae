"""Answers put together from an engine's events, checked against the `openai` package's types."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest
from openai.types import Completion, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

from llm.engines.base import Delta, Embeddings, Ended, Event, Finished, TokenLogprob, Usage
from llm.openai.answers import ChatAnswer, CompletionAnswer, embeddings_answer
from llm.openai.requests import ChatRequest, CompletionRequest, EmbeddingRequest
from llm.tools import HERMES
from mlops.exceptions import ApplicationError

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
USAGE = Usage(prompt=7, completion=5, cached=2)


def chat(**fields: Any) -> ChatAnswer:
    say = [{"role": "user", "content": "Hi"}]
    body = ChatRequest.parse({"model": "m", "messages": say, **fields})
    made = ChatAnswer(body, answer_id="chatcmpl-1", created=5, model="m", fingerprint="fp")
    made.begin(HERMES)
    return made


def completion(**fields: Any) -> CompletionAnswer:
    body = CompletionRequest.parse({"model": "m", "prompt": "a", **fields})
    return CompletionAnswer(body, answer_id="cmpl-1", created=5, model="m")


def checked(kind: type[BaseModel], data: dict[str, Any]) -> Any:
    """As the client reads it; every field must be one that it knows."""
    made = kind.model_validate(json.loads(json.dumps(data)), strict=True)
    strange(made)
    return made


def strange(value: Any) -> None:
    if isinstance(value, BaseModel):
        assert not value.model_extra, (type(value), value.model_extra)
        for name in type(value).model_fields:
            strange(getattr(value, name))
    elif isinstance(value, list):
        for one in value:
            strange(one)


def logprob(token: str, value: float = -0.5) -> TokenLogprob:
    return TokenLogprob(token, token.encode(), value, ((token, token.encode(), value),))


def told(text: str, *more: Event) -> list[Event]:
    half = len(text) // 2
    first, second = Delta(0, text[:half]), Delta(0, text[half:])
    return [first, second, Finished(0, "stop"), *more, Ended(USAGE)]


# -- whole ------------------------------------------------------------------------------------


def test_a_whole_chat_answer() -> None:
    made = checked(ChatCompletion, chat().whole(told("Hello there.")))
    assert (made.id, made.created, made.model) == ("chatcmpl-1", 5, "m")
    assert made.system_fingerprint == "fp"
    (choice,) = made.choices
    assert (choice.message.content, choice.finish_reason) == ("Hello there.", "stop")
    assert (choice.logprobs, choice.message.tool_calls) == (None, None)
    assert (made.usage.prompt_tokens, made.usage.completion_tokens) == (7, 5)
    assert made.usage.total_tokens == 12
    assert made.usage.prompt_tokens_details.cached_tokens == 2


def test_several_answers_of_one_request() -> None:
    events = [
        Delta(1, "b"),
        Delta(0, "a"),
        Finished(1, "length"),
        Finished(0, "stop", stop="x"),
        Ended(USAGE),
    ]
    made = checked(ChatCompletion, chat(n=2).whole(events))
    found = [(one.index, one.message.content, one.finish_reason) for one in made.choices]
    assert found == [(0, "a", "stop"), (1, "b", "length")]


def test_an_answer_without_a_text_is_an_empty_one() -> None:
    made = checked(ChatCompletion, chat().whole([Finished(0, "stop"), Ended(USAGE)]))
    assert made.choices[0].message.content == ""


def test_a_call_of_a_tool() -> None:
    made = checked(ChatCompletion, chat(tools=[TOOL]).whole(told(f"I look.\n{CALL}")))
    (choice,) = made.choices
    assert (choice.message.content, choice.finish_reason) == ("I look.", "tool_calls")
    (call,) = choice.message.tool_calls
    assert call.id.startswith("call_")
    assert (call.type, call.function.name) == ("function", "weather")
    assert json.loads(call.function.arguments) == {"city": "Oslo"}
    alone = checked(ChatCompletion, chat(tools=[TOOL]).whole(told(CALL)))
    assert alone.choices[0].message.content is None


@pytest.mark.parametrize("fields", [{}, {"tools": [TOOL], "tool_choice": "none"}])
def test_without_tools_a_call_is_text(fields: dict[str, Any]) -> None:
    made = checked(ChatCompletion, chat(**fields).whole(told(CALL)))
    assert (made.choices[0].message.content, made.choices[0].finish_reason) == (CALL, "stop")


def test_logprobs_of_a_chat() -> None:
    events = [Delta(0, "한", (logprob("한"),)), Finished(0, "stop"), Ended(USAGE)]
    made = checked(ChatCompletion, chat(logprobs=True, top_logprobs=1).whole(events))
    (token,) = made.choices[0].logprobs.content
    assert (token.token, token.logprob, bytes(token.bytes)) == ("한", -0.5, "한".encode())
    assert [top.token for top in token.top_logprobs] == ["한"]


def test_completions_of_several_prompts() -> None:
    events = [
        (0, Delta(0, "a", (logprob("a"),))),
        (2, Delta(1, "d", (logprob("d"),))),
        (0, Delta(1, "b", (logprob("b"),))),
        (2, Delta(0, "c", (logprob("c"), logprob("x")))),
        *((first, Finished(index, "stop")) for first in (0, 2) for index in (0, 1)),
        *((first, Ended(USAGE)) for first in (0, 2)),
    ]
    answer = completion(prompt=["p", "q"], n=2, logprobs=1)
    made = checked(Completion, answer.whole(events))
    assert [(one.index, one.text) for one in made.choices] == [*enumerate("abcd")]
    assert made.choices[2].logprobs.text_offset == [0, 1]
    assert made.choices[2].logprobs.tokens == ["c", "x"]
    assert made.choices[2].logprobs.top_logprobs == [{"c": -0.5}, {"x": -0.5}]
    assert (made.usage.prompt_tokens, made.usage.completion_tokens) == (14, 10)


# -- streamed ---------------------------------------------------------------------------------


def streamed(answer: ChatAnswer, events: list[Event]) -> list[ChatCompletionChunk]:
    raw = [chunk for event in events for chunk in answer.chunks(event)]
    for chunk in raw:
        assert chunk["object"] == "chat.completion.chunk"
    return [checked(ChatCompletionChunk, chunk) for chunk in raw]


def test_a_stream_begins_with_the_role_and_ends_with_the_reason() -> None:
    chunks = streamed(chat(stream=True), told("Hello."))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert {chunk.choices[0].delta.role for chunk in chunks[1:]} == {None}
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == "Hello."
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["stop"]
    assert {chunk.id for chunk in chunks} == {"chatcmpl-1"}


def test_usage_is_told_once_at_the_end_where_asked_for() -> None:
    answer = chat(stream=True, stream_options={"include_usage": True})
    raw = [chunk for event in told("Hello.") for chunk in answer.chunks(event)]
    assert all(chunk["usage"] is None and chunk["choices"] for chunk in raw[:-1])
    assert raw[-1]["choices"] == []
    last = checked(ChatCompletionChunk, raw[-1])
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (7, 5)
    plain = chat(stream=True)
    assert all("usage" not in one for event in told("x") for one in plain.chunks(event))


def test_a_streamed_call_adds_up() -> None:
    answer = chat(stream=True, tools=[TOOL])
    events: list[Event] = [Delta(0, character) for character in f"Look.\n{CALL}"]
    chunks = streamed(answer, [*events, Finished(0, "stop"), Ended(USAGE)])
    deltas = [chunk.choices[0].delta for chunk in chunks]
    calls = [call for delta in deltas for call in delta.tool_calls or []]
    assert calls[0].id.startswith("call_")
    assert (calls[0].type, calls[0].function.name) == ("function", "weather")
    assert all(call.id is None and call.function.name is None for call in calls[1:])
    assert {call.index for call in calls} == {0}
    arguments = "".join(call.function.arguments for call in calls)
    assert json.loads(arguments) == {"city": "Oslo"}
    assert "".join(delta.content or "" for delta in deltas) == "Look."
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_logprobs_of_text_that_is_held_back_are_all_told() -> None:
    answer = chat(stream=True, tools=[TOOL], logprobs=True)
    events: list[Event] = [Delta(0, character, (logprob(character),)) for character in CALL]
    chunks = streamed(answer, [*events, Finished(0, "stop"), Ended(USAGE)])
    tokens = [
        token.token
        for chunk in chunks
        for token in (chunk.choices[0].logprobs.content if chunk.choices[0].logprobs else [])
    ]
    assert "".join(tokens) == CALL


def test_a_streamed_completion() -> None:
    answer = completion(stream=True, stream_options={"include_usage": True}, prompt=["a", "b"])
    raw = [
        chunk for first in (0, 1) for event in told("xyz") for chunk in answer.chunks(event, first)
    ]
    chunks = []
    for chunk in raw[:-1]:
        # In a stream it is null until the end, as OpenAI's own is; the type forgets to say so.
        reason = chunk["choices"][0]["finish_reason"]
        choice = {**chunk["choices"][0], "finish_reason": reason or "stop"}
        chunks.append(checked(Completion, {**chunk, "choices": [choice]}))
        chunks[-1].choices[0].finish_reason = reason
    for index in (0, 1):
        own = [chunk.choices[0] for chunk in chunks if chunk.choices[0].index == index]
        assert "".join(choice.text for choice in own) == "xyz"
        assert [one.finish_reason for one in own] == [None] * (len(own) - 1) + ["stop"]
    assert raw[-1]["choices"] == []
    assert raw[-1]["usage"]["total_tokens"] == 24
    assert all(chunk["usage"] is None for chunk in raw[:-1])


# -- embeddings -------------------------------------------------------------------------------


def test_embeddings_as_numbers_and_packed() -> None:
    made = Embeddings(vectors=[[0.5, -1.0, 0.25], [1.0, 0.0, 2.0]], tokens=9)
    numbers = EmbeddingRequest.parse({"model": "m", "input": ["a", "b"]})
    plain = checked(CreateEmbeddingResponse, embeddings_answer(numbers, made, model="m"))
    assert [one.embedding for one in plain.data] == [[0.5, -1.0, 0.25], [1.0, 0.0, 2.0]]
    assert [one.index for one in plain.data] == [0, 1]
    assert (plain.usage.prompt_tokens, plain.usage.total_tokens) == (9, 9)
    asked = {"model": "m", "input": ["a", "b"], "encoding_format": "base64"}
    packed = embeddings_answer(EmbeddingRequest.parse(asked), made, model="m")
    raw = base64.b64decode(packed["data"][1]["embedding"])
    assert struct.unpack("<3f", raw) == (1.0, 0.0, 2.0)


def test_other_dimensions_than_the_models_are_refused() -> None:
    asked = EmbeddingRequest.parse({"model": "m", "input": "a", "dimensions": 2})
    with pytest.raises(ApplicationError, match="3 dimensions") as caught:
        embeddings_answer(asked, Embeddings([[0.1, 0.2, 0.3]], 1), model="m")
    assert caught.value.param == "dimensions"
