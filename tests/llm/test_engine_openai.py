"""The engine `openai`: what it asks other servers, and what it makes of their answers."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from llm.engines.base import (
    AdapterSource,
    Delta,
    Ended,
    Event,
    Failed,
    Finished,
    GenerationRequest,
    Grammar,
    ModelSource,
    Sampling,
    TokenLogprob,
    Usage,
)
from llm.engines.openai import OpenAIEngine, OpenAIModel
from mlops.exceptions import ApplicationError, EngineUnavailable
from tests.misbehaving import Handler, Misbehaving
from tests.services import free_port, wait_for

USER = [{"role": "user", "content": "Hello"}]
USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 3}}


@pytest.fixture
def serve() -> Iterator[Callable[..., Misbehaving]]:
    with ExitStack() as stack:
        yield lambda behave, **more: stack.enter_context(Misbehaving(behave, **more))


@pytest.fixture
def model() -> Iterator[Callable[..., OpenAIModel]]:
    with ExitStack() as stack:

        def load(*servers: Misbehaving | str, **options: Any) -> OpenAIModel:
            urls = [one if isinstance(one, str) else one.url for one in servers]
            options = {"urls": urls, "timeout": 10, "patience": 0.3, **options}
            loaded = OpenAIEngine().load(ModelSource("chat", "", options=options))
            stack.callback(loaded.close)
            return loaded

        yield load


class Listening:
    """The events of one request, as they come."""

    def __init__(self, model: OpenAIModel, request: GenerationRequest) -> None:
        self.events: list[Event] = []
        self._queue: queue.SimpleQueue[Event] = queue.SimpleQueue()
        model.submit(request, self._queue.put)

    def next(self) -> Event:
        self.events.append(self._queue.get(timeout=20))
        return self.events[-1]

    def all(self) -> list[Event]:
        while not isinstance(self.next(), Ended | Failed):
            pass
        return self.events


def chat(id: str = "r1", **more: Any) -> GenerationRequest:
    return GenerationRequest(**{"id": id, "messages": USER, **more})


def ask(model: OpenAIModel, request: GenerationRequest | None = None) -> list[Event]:
    return Listening(model, request or chat()).all()


def text(events: list[Event], index: int = 0) -> str:
    return "".join(one.text for one in events if isinstance(one, Delta) and one.index == index)


def piece(content: str | None = None, reason: str | None = None, **delta: Any) -> dict[str, Any]:
    if content is not None:
        delta["content"] = content
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


def good(handler: Handler) -> None:
    counted = {"choices": [], "usage": USAGE}
    handler.stream(piece("Hel", role="assistant"), piece("lo"), piece(reason="stop"), counted)
    handler.stream("[DONE]")


def failed(events: list[Event], status: int, code: str, *parts: str) -> Failed:
    last = events[-1]
    assert isinstance(last, Failed), events
    assert (last.status, last.code) == (status, code)
    for part in parts:
        assert part in last.message, last
    return last


# -- what is asked ----------------------------------------------------------------------------


@pytest.fixture
def asked(serve, model) -> Callable[..., dict[str, Any]]:
    """What arrives of a request."""

    def send(request: GenerationRequest, **options: Any) -> dict[str, Any]:
        seen: dict[str, Any] = {}

        def behave(handler: Handler) -> None:
            seen.update(json.loads(handler.body))
            seen["path"] = handler.path
            seen["headers"] = dict(handler.headers)
            handler.stream(piece("x", "stop"), "[DONE]")

        assert isinstance(ask(model(serve(behave), **options), request)[-1], Ended)
        return seen

    return send


def test_a_plain_chat(asked) -> None:
    seen = asked(chat("req-5", sampling=Sampling(temperature=0.5)), model="llama")
    headers = seen.pop("headers")
    assert headers["X-Request-ID"] == "req-5" and "Authorization" not in headers
    assert seen == {
        "path": "/v1/chat/completions",
        "model": "llama",
        "messages": USER,
        "stream": True,
        "stream_options": {"include_usage": True},
        "n": 1,
        "temperature": 0.5,
        "top_p": 1.0,
    }


def test_all_of_a_chat(asked) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    sampling = Sampling(
        max_tokens=9,
        temperature=0.0,
        top_p=0.9,
        top_k=5,
        min_p=0.1,
        presence_penalty=0.2,
        frequency_penalty=0.3,
        repetition_penalty=1.1,
        logit_bias={17: -100.0},
        seed=0,
        stop=("\n", "END"),
        logprobs=3,
        grammar=Grammar("json_schema", '{"type": "object"}'),
        ignore_eos=True,
    )
    seen = asked(
        chat(n=1, tools=[tool], sampling=sampling, template_options={"enable_thinking": False})
    )
    assert {key: value for key, value in seen.items() if key not in ("headers", "path")} == {
        "model": "chat",
        "messages": USER,
        "tools": [tool],
        "chat_template_kwargs": {"enable_thinking": False},
        "stream": True,
        "stream_options": {"include_usage": True},
        "n": 1,
        "max_tokens": 9,
        "temperature": 0.0,
        "top_p": 0.9,
        "top_k": 5,
        "min_p": 0.1,
        "presence_penalty": 0.2,
        "frequency_penalty": 0.3,
        "repetition_penalty": 1.1,
        "logit_bias": {"17": -100.0},
        "seed": 0,
        "stop": ["\n", "END"],
        "logprobs": True,
        "top_logprobs": 3,
        "ignore_eos": True,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
        },
    }


@pytest.mark.parametrize(
    ("grammar", "sent"),
    [
        (Grammar("json_object"), {"response_format": {"type": "json_object"}}),
        (Grammar("regex", "a+"), {"structured_outputs": {"regex": "a+"}}),
        (Grammar("lark", "start: /a/"), {"structured_outputs": {"grammar": "start: /a/"}}),
    ],
)
def test_grammars(asked, grammar: Grammar, sent: dict[str, Any]) -> None:
    assert sent.items() <= asked(chat(sampling=Sampling(grammar=grammar))).items()


def test_a_forced_call_is_asked_for_as_such(asked) -> None:
    """Its grammar is ours; and arguments, which templates want as objects, are text again."""
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    function = {"name": "f", "arguments": {"a": 1}}
    call = {"id": "c", "type": "function", "function": function}
    messages = [*USER, {"role": "assistant", "content": "", "tool_calls": [call]}]
    seen = asked(
        chat(
            messages=messages,
            tools=[tool],
            tool_choice="required",
            sampling=Sampling(grammar=Grammar("lark", "start: /a/")),
        )
    )
    assert seen["tool_choice"] == "required" and "structured_outputs" not in seen
    assert seen["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"a": 1}'


def test_a_completion(asked) -> None:
    request = GenerationRequest("r", prompt=[1, 2, 3], echo=True, sampling=Sampling(logprobs=0))
    seen = asked(request)
    assert seen["path"] == "/v1/completions"
    assert (seen["prompt"], seen["echo"], seen["logprobs"]) == ([1, 2, 3], True, 0)
    assert "messages" not in seen and seen["max_tokens"] is None


def test_an_adapter_is_asked_for_by_its_name_there(asked) -> None:
    seen = asked(chat(adapter=AdapterSource("ours", "theirs")), model="base")
    assert seen["model"] == "theirs"


def test_the_key_comes_from_the_environment(asked, model, monkeypatch) -> None:
    with pytest.raises(EngineUnavailable, match="UPSTREAM_KEY"):
        model("http://127.0.0.1:1", api_key="UPSTREAM_KEY")
    monkeypatch.setenv("UPSTREAM_KEY", "s3cret")
    headers = asked(chat(), api_key="UPSTREAM_KEY")["headers"]
    assert headers["Authorization"] == "Bearer s3cret"


def test_urls(serve, model) -> None:
    for urls in ([], ["vllm:8000"], ["ftp://vllm"], "http://"):
        with pytest.raises(EngineUnavailable, match="http://vllm:8000"):
            OpenAIEngine().load(ModelSource("chat", "", options={"urls": urls}))
    # As clients write it, and as one string.
    server = serve(good)
    loaded = model(urls=f"{server.url}/v1/")
    assert text(ask(loaded)) == "Hello"
    assert loaded.device == f"remote {server.url.removeprefix('http://')}"


# -- what is answered -------------------------------------------------------------------------


def test_events(serve, model) -> None:
    assert ask(model(serve(good))) == [
        Delta(0, "Hel"),
        Delta(0, "lo"),
        Finished(0, "stop"),
        Ended(Usage(prompt=7, completion=2, cached=3)),
    ]


def test_several_answers_each_ended_by_itself(serve, model) -> None:
    def two(handler: Handler) -> None:
        def choice(index: int, **more: Any) -> dict[str, Any]:
            return {"choices": [{"index": index, "delta": {}, **more}]}

        handler.stream(
            choice(1, delta={"content": "b"}),
            choice(0, delta={"content": "a"}),
            choice(1, finish_reason="length"),
            choice(0, finish_reason="stop", stop_reason="END"),
            "[DONE]",
        )

    events = ask(model(serve(two)), chat(n=2))
    assert (text(events, 0), text(events, 1)) == ("a", "b")
    assert events[2:4] == [Finished(1, "length"), Finished(0, "stop", "END")]
    # Who counts nothing is counted for: a chunk a token, four bytes a token of the prompt.
    assert events[4] == Ended(Usage(prompt=2, completion=2))


def test_logprobs_of_both_kinds(serve, model) -> None:
    def with_logprobs(handler: Handler) -> None:
        if handler.path == "/v1/completions":
            logprobs: dict[str, Any] = {
                "tokens": ["H", "é"],
                "token_logprobs": [None, -0.5],
                "top_logprobs": [None, {"é": -0.5, "e": -1.5}],
            }
            choice = {"index": 0, "text": "Hé", "logprobs": logprobs, "finish_reason": "stop"}
        else:
            top = [{"token": "\ufffd", "bytes": [0xC3], "logprob": -1.0}]
            entry = {"token": "é", "bytes": None, "logprob": -0.5, "top_logprobs": top}
            choice = {
                "index": 0,
                "delta": {"content": "é"},
                "logprobs": {"content": [entry]},
                "finish_reason": "stop",
            }
        handler.stream({"choices": [choice]}, "[DONE]")

    loaded = model(serve(with_logprobs))
    found = ask(loaded)[0]
    assert isinstance(found, Delta)
    assert found.logprobs == (TokenLogprob("é", "é".encode(), -0.5, (("\ufffd", b"\xc3", -1.0),)),)
    found = ask(loaded, GenerationRequest("r", prompt="x"))[0]
    assert isinstance(found, Delta) and found.text == "Hé"
    assert found.logprobs[1] == TokenLogprob(
        "é", "é".encode(), -0.5, (("é", "é".encode(), -0.5), ("e", b"e", -1.5))
    )


def test_calls_of_tools_come_as_text(serve, model) -> None:
    """In pieces, as servers send them: two calls, the second without arguments."""

    def call(index: int, **function: Any) -> dict[str, Any]:
        return piece(tool_calls=[{"index": index, "function": function}])

    def calling(handler: Handler) -> None:
        handler.stream(
            piece("Let me see. "),
            call(0, name="weather", arguments=""),
            call(0, arguments='{"city": '),
            call(0, arguments='"Oslo"}'),
            call(1, name="time"),
            piece(reason="tool_calls"),
            "[DONE]",
        )

    events = ask(model(serve(calling)))
    assert text(events) == (
        "Let me see. "
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
        '<tool_call>\n{"name": "time", "arguments": {}}\n</tool_call>'
    )
    assert events[-2] == Finished(0, "tool_calls")


def test_embeddings(serve, model) -> None:
    def vectors(handler: Handler) -> None:
        body = json.loads(handler.body)
        assert handler.path == "/v1/embeddings" and body["encoding_format"] == "float"
        rows = [{"index": n, "embedding": [3.0, 4.0 * n]} for n in range(len(body["input"]))]
        handler.answer(200, {"data": rows[::-1], "usage": {"prompt_tokens": 5}})

    found = model(serve(vectors)).embed(["a", [1, 2]])
    assert found.vectors == ((1.0, 0.0), (0.6, 0.8)) and found.tokens == 5


@pytest.mark.parametrize(
    "answer",
    [
        {"data": []},
        {"data": [{"index": 0, "embedding": [0.0, 0.0]}]},
        {"data": [{"index": 0, "embedding": "AAAA"}]},
        [1],
    ],
)
def test_embeddings_that_are_none(serve, model, answer: Any) -> None:
    loaded = model(serve(lambda handler: handler.answer(200, answer)))
    with pytest.raises(ApplicationError) as caught:
        loaded.embed(["a"])
    assert (caught.value.code, caught.value.status) == ("model_server_garbage", 502)


def test_what_only_the_server_knows(model) -> None:
    loaded = model("http://127.0.0.1:1")
    with pytest.raises(ApplicationError, match="chat template"):
        loaded.render(USER)
    assert loaded.count("four") == 1 and loaded.count("안녕하세요") == 4 and loaded.count("") == 0


# -- servers that refuse ----------------------------------------------------------------------


def test_too_many_requests_stays_what_it_is(serve, model) -> None:
    body = {"error": {"message": "Slow down.", "code": "rate_limited", "param": "model"}}
    server = serve(lambda handler: handler.answer(429, body, Retry_After="7"))
    last = failed(ask(model(server)), 429, "rate_limited", "Slow down.")
    assert (last.retry_after, last.param, server.requests) == (7.0, "model", 1)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, {"error": {"message": "too long", "code": "context_length_exceeded"}}, None),
        (404, {"error": {"message": "no such model", "type": "NotFoundError", "code": 404}}, None),
        (422, {"detail": "not like this"}, None),
        (500, {"object": "error", "message": "out of order", "code": 500}, None),
        (500, b"<html>oops</html>", None),
        (401, {"error": {"message": "wrong key", "code": "invalid_api_key"}}, 502),
        (302, b"", 502),
    ],
)
def test_an_error_is_final(serve, model, status: int, body: Any, expected: int | None) -> None:
    refusing, second = serve(lambda handler: handler.answer(status, body)), serve(good)
    last = ask(model(refusing, second))[-1]
    assert isinstance(last, Failed) and last.status == (expected or status)
    if isinstance(body, dict) and "error" in body:
        assert last.message == body["error"]["message"]
        code = body["error"]["code"]
        assert last.code == (code if isinstance(code, str) else "model_server_error")
    assert last.message and (refusing.requests, second.requests) == (1, 0)


def test_a_full_server_rests(serve, model) -> None:
    full = serve(lambda handler: handler.answer(503, {"error": "full"}, Retry_After="30"))
    second = serve(good)
    loaded = model(full, second)
    assert failed(ask(loaded), 503, "model_server_error", "full").retry_after == 30
    assert [text(ask(loaded)) for _ in range(3)] == ["Hello"] * 3
    assert (full.requests, second.requests) == (1, 3)


def test_an_error_in_mid_stream(serve, model) -> None:
    def breaking(handler: Handler) -> None:
        handler.stream(piece("Hel"), {"error": {"message": "out of memory", "code": "oom"}})

    events = ask(model(serve(breaking)))
    assert events[0] == Delta(0, "Hel")
    failed(events, 502, "oom", "out of memory")


# -- servers that break -----------------------------------------------------------------------


def test_a_server_that_hangs(serve, model) -> None:
    release = threading.Event()
    hanging, second = serve(lambda _: release.wait(20)), serve(good)
    events = ask(model(hanging, second, timeout=0.3))
    failed(events, 504, "model_server_timeout", "said nothing for 0.3 s")
    assert (hanging.requests, second.requests) == (1, 0)
    release.set()


def test_a_server_that_hangs_in_mid_stream(serve, model) -> None:
    release = threading.Event()

    def hang(handler: Handler) -> None:
        handler.stream(piece("Hel"), end=False)
        release.wait(20)

    events = ask(model(serve(hang), timeout=0.3))
    assert events[0] == Delta(0, "Hel")
    failed(events, 504, "model_server_timeout")
    release.set()


def test_a_connection_that_breaks_before_the_first_token_is_tried_again_once(serve, model) -> None:
    def drop_late(handler: Handler) -> None:
        handler.stream(piece(role="assistant"), end=False)
        handler.drop()

    for drop in (Handler.drop, drop_late):
        dying, second = serve(drop), serve(good)
        assert text(ask(model(dying, second))) == "Hello"
        assert (dying.requests, second.requests) == (1, 1)
        first, third, never = serve(drop), serve(drop), serve(good)
        events = ask(model(first, third, never))
        failed(events, 502, "model_server_broke_off", "broke the connection")
        assert (first.requests, third.requests, never.requests) == (1, 1, 0)


def test_a_connection_that_breaks_in_mid_stream_ends_the_answer(serve, model) -> None:
    def half(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        handler.streaming = True
        handler.stream(piece("Hel"), end=False)
        handler.drop()

    halving, second = serve(half), serve(good)
    events = ask(model(halving, second))
    assert events[0] == Delta(0, "Hel")
    failed(events, 502, "model_server_broke_off")
    assert (halving.requests, second.requests) == (1, 0)


def test_a_stream_that_just_ends(serve, model) -> None:
    events = ask(model(serve(lambda handler: handler.stream(piece("Hel")))))
    failed(events, 502, "model_server_broke_off", "has no end")
    events = ask(model(serve(lambda handler: handler.stream(piece("Hel"), "[DONE]"))))
    failed(events, 502, "model_server_garbage", "without the end of 1")


@pytest.mark.parametrize(
    "garbage",
    [
        "null",
        "[1]",
        "{",
        "{}",
        '{"choices": 5}',
        '{"choices": [5]}',
        '{"choices": [{"index": "x"}]}',
        '{"choices": [{"index": 0, "delta": {"content": 5}}]}',
        '{"choices": [{"index": 0, "delta": {"tool_calls": [{"function": {}}]}}]}',
        '{"choices": [], "usage": 5}',
        "[" * 100_000,
    ],
)
def test_garbage_in_a_stream(serve, model, garbage: str) -> None:
    failed(
        ask(model(serve(lambda handler: handler.stream(garbage, "[DONE]")))),
        *(502, "model_server_garbage"),
    )


def test_an_answer_that_is_no_stream(serve, model) -> None:
    liar = serve(lambda handler: handler.answer(200, {"choices": []}))
    failed(ask(model(liar)), 502, "model_server_garbage", "content type")


def test_nobody_listens(model) -> None:
    events = ask(model(f"http://127.0.0.1:{free_port()}"))
    last = failed(events, 503, "model_server_unavailable", "Try again later")
    assert last.retry_after


def test_a_server_that_is_started_late(model) -> None:
    port = free_port()
    with ExitStack() as stack:
        start = threading.Timer(0.3, lambda: stack.enter_context(Misbehaving(good, port=port)))
        start.start()
        assert text(ask(model(f"http://127.0.0.1:{port}", patience=20))) == "Hello"
        start.join()


def test_the_one_with_the_least_to_do_is_asked(serve, model) -> None:
    gate = threading.Event()

    def waiting(handler: Handler) -> None:
        gate.wait(20)
        good(handler)

    first, second = serve(waiting), serve(waiting)
    loaded = model(first, second)
    running = [Listening(loaded, chat(f"r{n}")) for n in range(6)]
    assert wait_for(lambda: first.requests + second.requests == 6)
    assert (first.requests, second.requests) == (3, 3)
    gate.set()
    assert [text(one.all()) for one in running] == ["Hello"] * 6


# -- ends -------------------------------------------------------------------------------------


class Endless:
    """Streams until its client has gone."""

    def __init__(self) -> None:
        self.gone = threading.Event()

    def __call__(self, handler: Handler) -> None:
        try:
            while True:
                handler.stream(piece("a"), end=False)
                self.gone.wait(0.01)
        except OSError:
            self.gone.set()
        handler.close_connection = True


def test_cancel_hangs_up(serve, model) -> None:
    endless = Endless()
    loaded = model(serve(endless))
    running = Listening(loaded, chat("r9"))
    assert running.next() == Delta(0, "a")
    loaded.cancel("another")
    loaded.cancel("r9")
    events = running.all()
    assert events[-2] == Finished(0, "cancelled")
    assert isinstance(events[-1], Ended) and events[-1].usage.completion == len(events) - 2
    assert endless.gone.wait(20)


def test_cancel_at_once(serve, model) -> None:
    endless = Endless()
    loaded = model(serve(endless))
    running = Listening(loaded, chat("r9", n=2))
    loaded.cancel("r9")
    ends = [event for event in running.all() if isinstance(event, Finished)]
    assert ends == [Finished(0, "cancelled"), Finished(1, "cancelled")]


def test_close_ends_what_runs(serve, model) -> None:
    endless = Endless()
    loaded = model(serve(endless))
    running = Listening(loaded, chat())
    running.next()
    loaded.close()
    failed(running.all(), 503, "model_unloaded")
    assert endless.gone.wait(20)
    with pytest.raises(ApplicationError, match="unloaded"):
        loaded.submit(chat(), lambda event: None)
    loaded.cancel("r1")
