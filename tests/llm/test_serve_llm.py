"""The language-model server as a process: what it answers, refuses, counts, and how it ends."""

from __future__ import annotations

import json
import queue
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from llm.engines.base import (
    AdapterSource,
    Delta,
    Ended,
    Event,
    Failed,
    Finished,
    GenerationRequest,
    Grammar,
    LoadedModel,
    ModelSource,
    Sampling,
)
from llm.engines.openai import OpenAIEngine
from llm.tools import CallArguments, CallStart, ToolCallReader
from mlops.exceptions import ApplicationError
from tests.fake_language import vector
from tests.model_server import TOKEN, LanguageServerProcess
from tests.services import wait_for

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}


@pytest.fixture(scope="module")
def server() -> Iterator[LanguageServerProcess]:
    with LanguageServerProcess(
        *("a/folder", "--name", "fake", "--adapter", "tuned=an/adapter"),
        *("--embedding", "vectors=another/folder"),
        # There are no rows: a database that can't be reached must not matter.
        DATABASE_URL="postgresql://nobody@127.0.0.1:1/none",
        MAX_UPLOAD_MB="1",
    ) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: LanguageServerProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=TOKEN, max_retries=0) as client:
        yield client


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


@pytest.fixture
def gated(gate: Path) -> Iterator[LanguageServerProcess]:
    """No word is said before the gate is open; three requests are held."""
    gate.touch()  # for the warm-up
    with LanguageServerProcess(
        *("fake", "--queue", "3", "--stop-seconds", "1"), options={"gate": str(gate)}
    ) as server:
        gate.unlink()
        yield server
        gate.touch()


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


# -- what is answered -------------------------------------------------------------------------


def test_health_is_for_everyone(server: LanguageServerProcess) -> None:
    answer = httpx2.get(f"{server.url}/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "model_loaded": True})


@pytest.mark.parametrize("sent", [None, "Bearer wrong", f"Token {TOKEN}", "Bearer"])
@pytest.mark.parametrize(
    "path", ["/metrics", "/v1/models", "/v1/models/fake", "/v1/chat/completions"]
)
def test_all_else_wants_the_token(
    server: LanguageServerProcess, path: str, sent: str | None
) -> None:
    method = "POST" if path.endswith("completions") else "GET"
    headers = {"Authorization": sent} if sent else {}
    answer = httpx2.request(method, server.url + path, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"]["code"] == "not_authenticated"


def test_models(client: openai.OpenAI) -> None:
    models = {model.id: model.model_dump() for model in client.models.list()}
    assert list(models) == ["fake", "tuned", "vectors"]
    assert models["fake"]["parent"] is None and models["fake"]["root"] == "a/folder"
    assert (models["tuned"]["parent"], models["tuned"]["root"]) == ("fake", "an/adapter")
    assert client.models.retrieve("tuned").id == "tuned"
    with pytest.raises(openai.NotFoundError, match="Choose one of: fake, tuned, vectors"):
        client.models.retrieve("org/unknown")


def test_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="fake", messages=user("hello you there"))
    (choice,) = answer.choices
    assert choice.message.content == "hello you there" and choice.finish_reason == "stop"
    assert answer.id.startswith("chatcmpl-") and answer.model == "fake"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 3)


def test_chat_streamed(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="fake",
        messages=user("count 4"),
        n=2,
        stream=True,
        stream_options={"include_usage": True},
    )
    *chunks, last = stream
    assert last.choices == [] and last.usage is not None and last.usage.completion_tokens == 8
    for index in (0, 1):
        mine = [c.choices[0] for c in chunks if c.choices[0].index == index]
        assert [one.delta.content for one in mine] == ["", "1 ", "2 ", "3 ", "4", None]
        assert mine[-1].finish_reason == "stop"


def test_an_adapter_is_called_by_its_name(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="tuned", messages=user("hello"))
    assert answer.choices[0].message.content == "tuned: hello" and answer.model == "tuned"


def test_tools_and_schemas(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="fake", messages=user('call weather {"city": "Oslo"}'), tools=[TOOL]
    )
    assert answer.choices[0].finish_reason == "tool_calls"
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments) == {"city": "Oslo"}
    schema = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA}}
    answer = client.chat.completions.create(
        model="fake", messages=user("who?"), response_format=schema
    )
    assert json.loads(answer.choices[0].message.content or "") == {"name": "word", "age": 7}


def test_completions_of_several_prompts(client: openai.OpenAI) -> None:
    asked = {"model": "fake", "prompt": ["a b", "c d e"], "n": 2, "max_tokens": 9}
    whole = client.completions.create(**asked)
    texts = [(one.index, one.text) for one in whole.choices]
    assert texts == [(0, "a b"), (1, "a b"), (2, "c d e"), (3, "c d e")]
    assert whole.usage is not None and whole.usage.completion_tokens == 10
    pieces = dict.fromkeys(range(4), "")
    for chunk in client.completions.create(**asked, stream=True):
        pieces[chunk.choices[0].index] += chunk.choices[0].text
    assert list(pieces.items()) == texts


@pytest.mark.parametrize("more", [{}, {"encoding_format": "float"}])
def test_embeddings(client: openai.OpenAI, more: dict[str, Any]) -> None:
    answer = client.embeddings.create(model="vectors", input=["one two", "three"], **more)
    assert [row.embedding for row in answer.data] == [vector("one two"), vector("three")]
    assert answer.usage.prompt_tokens == 3


def test_curl(server: LanguageServerProcess) -> None:
    """The stream as it goes over the wire."""
    body = {"model": "fake", "messages": user("one two"), "stream": True}
    command = ["curl", "-sN", f"{server.url}/v1/chat/completions", "-d", json.dumps(body)]
    command += ["-H", f"Authorization: Bearer {TOKEN}", "-H", "Content-Type: application/json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    *events, end, rest = done.stdout.split("\n\n")
    assert end == "data: [DONE]" and rest == ""
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    texts = [chunk["choices"][0]["delta"].get("content") for chunk in chunks]
    assert texts == ["", "one ", "two", None]


def test_requests_at_once_are_never_mixed(
    server: LanguageServerProcess, clients: ThreadPoolExecutor
) -> None:
    texts = [f"{number} says {number * 7}" for number in range(48)]

    def ask(text: str) -> str:
        answer = server.chat(text, stream=int(text.split()[0]) % 2 == 0)
        if not answer.headers["content-type"].startswith("text/event-stream"):
            return answer.json()["choices"][0]["message"]["content"]
        return "".join(
            json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
            for line in answer.text.splitlines()
            if line.startswith("data: {")
        )

    assert list(clients.map(ask, texts)) == texts


# -- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"{", "invalid_json", None),
        (b"[" * 100_000, "invalid_json", None),
        (b"[]", "invalid_type", None),
        ({"model": "fake"}, "missing_required_parameter", "messages"),
        ({"model": "fake", "messages": user("x"), "n": 0}, "invalid_value", "n"),
        ({"model": "vectors", "messages": user("x")}, "wrong_task", "model"),
        (
            {"model": "fake", "messages": user("x"), "max_tokens": 5000},
            *("context_length_exceeded", "messages"),
        ),
        (
            {
                "model": "fake",
                "messages": user("x"),
                "stream": True,
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "s", "schema": {"type": "null"}},
                },
            },
            *("invalid_grammar", "response_format"),
        ),
    ],
)
def test_what_is_wrong_is_a_status_and_not_an_event(
    server: LanguageServerProcess, body: Any, code: str, param: str | None
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = server.client.post("/v1/chat/completions", content=content)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert error["type"] == "invalid_request_error" and error["message"]


def test_other_refusals(server: LanguageServerProcess, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gone", messages=user("x"))
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="too long"):
        client.embeddings.create(model="vectors", input="word " * 1001)
    assert server.client.get("/v1/chat/completions").status_code == 405
    assert server.client.get("/v1/none").json()["error"]["type"] == "not_found_error"
    large = server.client.post("/v1/chat/completions", content=b"x" * 2_000_000)
    assert large.status_code == 413
    assert server.chat("still here").status_code == 200


def test_a_failure_of_the_engine(server: LanguageServerProcess, client: openai.OpenAI) -> None:
    """Before the first word it is a status, after it an event, and never silence."""
    failed = server.metric("llm_requests_total", path="/v1/chat/completions", status="500")
    with pytest.raises(openai.InternalServerError, match="The model's fault"):
        client.chat.completions.create(model="fake", messages=user("fail 3"))
    answer = server.chat("fail 3", stream=True)
    events = answer.text.strip().split("\n\n")
    error = json.loads(events[-1].removeprefix("data: "))["error"]
    assert (error["code"], error["message"]) == ("engine_failed", "The model's fault.")
    assert "[DONE]" not in answer.text and '"3"' in answer.text
    assert wait_for(
        lambda: (
            server.metric("llm_requests_total", path="/v1/chat/completions", status="500")
            == failed + 2
        )
    )


def test_metrics(server: LanguageServerProcess) -> None:
    names = {
        "llm_requests_total": {"path": "/v1/chat/completions", "status": "200"},
        "llm_prompt_tokens_total": {"model": "tuned"},
        "llm_completion_tokens_total": {"model": "tuned"},
        "llm_first_token_seconds_count": {},
        "llm_token_gap_seconds_count": {},
        "llm_request_seconds_count": {},
    }
    before = {name: server.metric(name, **labels) for name, labels in names.items()}
    assert server.chat("one two", model="tuned", stream=True).status_code == 200
    assert wait_for(lambda: server.metric("llm_requests_in_flight") == 0)
    grown = {name: server.metric(name, **labels) - before[name] for name, labels in names.items()}
    # "tuned: one two"; words of one step may come together.
    assert 1 <= grown.pop("llm_token_gap_seconds_count") + 1 <= 3
    assert list(grown.values()) == [1, 2, 3, 1, 1]
    assert server.metric("llm_model_loaded") == 1
    assert server.metric("llm_model_info", model="fake", device="cpu fake") == 1
    assert server.metric("llm_requests_waiting") == server.metric("llm_requests_running") == 0
    assert server.metric("llm_requests_limit") == 64
    assert server.metric("llm_batch_size") == server.metric("llm_kv_tokens") == 0
    assert server.metric("llm_model_memory_bytes") == 2000
    answer = server.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")


# -- too much at once, and clients that go ----------------------------------------------------


def hold(
    server: LanguageServerProcess, pool: ThreadPoolExecutor, *texts: str, **body: Any
) -> list[Future[httpx2.Response]]:
    """Requests that the server has taken and can't answer before the gate is open."""
    futures = []
    for text in texts:
        before = server.metric("llm_requests_in_flight")
        futures.append(pool.submit(server.chat, text, **body))
        assert wait_for(lambda before=before: server.metric("llm_requests_in_flight") > before)
    return futures


def test_a_full_queue_says_when_to_come_back(
    gated: LanguageServerProcess, gate: Path, clients: ThreadPoolExecutor
) -> None:
    held = hold(gated, clients, "one", "two", "three")
    assert gated.metric("llm_requests_waiting") == gated.metric("llm_batch_size") == 3
    assert gated.metric("llm_kv_tokens") == 21
    answer = gated.chat("four")
    assert answer.status_code == 503
    assert 1 <= int(answer.headers["retry-after"]) <= 30
    assert answer.json()["error"]["code"] == "queue_full"
    gate.touch()
    texts = [one.result(20).json()["choices"][0]["message"]["content"] for one in held]
    assert texts == ["one", "two", "three"]
    assert gated.chat("four").status_code == 200


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_is_not_worked_for(clients: ThreadPoolExecutor, stream: bool) -> None:
    """A request that would end the process at its 300th word, and doesn't come so far."""
    with LanguageServerProcess("fake", options={"delay": 0.002}) as server:
        content = json.dumps({"model": "fake", "messages": user("die 300"), "stream": stream})
        leaving = socket.create_connection(("127.0.0.1", server.port))
        leaving.sendall(
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
            f"Content-Length: {len(content)}\r\n\r\n{content}".encode()
        )
        if stream:
            assert leaving.recv(4096).startswith(b"HTTP/1.1 200")
        else:
            assert wait_for(lambda: server.metric("llm_requests_in_flight") == 1)
        leaving.close()
        # Longer than the 300 words that the other would have had.
        assert server.chat("count 500").json()["usage"]["completion_tokens"] == 500
        labels = {"path": "/v1/chat/completions", "status": "499"}
        assert wait_for(lambda: server.metric("llm_requests_total", **labels) == 1)
        assert server.metric("llm_requests_in_flight") == 0


# -- beginning and end ------------------------------------------------------------------------


def test_told_to_stop_it_finishes_what_it_has_taken(
    gated: LanguageServerProcess, gate: Path, clients: ThreadPoolExecutor
) -> None:
    held = hold(gated, clients, "one", "two", stream=True)
    assert gated.process is not None
    gated.process.send_signal(signal.SIGTERM)
    assert wait_for(lambda: not listening(gated.port))
    gate.touch()
    for one in held:
        assert one.result(20).text.endswith("data: [DONE]\n\n")
    assert gated.process.wait(20) == 0


def test_it_does_not_wait_for_ever(clients: ThreadPoolExecutor) -> None:
    """Who still waits when time is up is told so: in mid-stream by an event."""
    with LanguageServerProcess(
        *("fake", "--stop-seconds", "0.5"), options={"delay": 0.01}
    ) as server:
        whole, stream = hold(server, clients, "count 100000") + hold(
            server, clients, "count 100000", stream=True
        )
        assert wait_for(lambda: server.metric("llm_requests_running") == 2)
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 1
        assert whole.result(10).status_code == 503
        assert whole.result(10).json()["error"]["code"] == "server_stopping"
        events = stream.result(10).text.strip().split("\n\n")
        error = json.loads(events[-1].removeprefix("data: "))["error"]
        assert error["code"] == "server_stopping" and len(events) > 1
        assert "stopped_with_requests_unanswered" in server.log()


def listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_while_it_loads(gate: Path) -> None:
    with LanguageServerProcess("fake", options={"load_gate": str(gate)}, loaded=False) as server:
        answer = httpx2.get(f"{server.url}/health")
        assert answer.status_code == 503
        assert answer.json() == {"status": "loading", "model_loaded": False}
        assert server.chat("hello").json()["error"]["code"] == "loading"
        gate.touch()
        assert wait_for(lambda: httpx2.get(f"{server.url}/health").status_code == 200)
        assert server.chat("hello").status_code == 200


def test_told_to_stop_while_it_loads(gate: Path) -> None:
    with LanguageServerProcess("fake", options={"load_gate": str(gate)}, loaded=False) as server:
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0


def test_a_model_that_can_not_be_loaded_ends_it() -> None:
    server = LanguageServerProcess("damaged/folder", loaded=False)
    try:
        server.start()
        assert server.process is not None and server.process.wait(20) == 1
    except RuntimeError:
        # It had ended before it was found to listen.
        pass
    try:
        assert "damaged/folder holds no readable weights" in server.log()
    finally:
        server.close()


def test_it_needs_a_secret_to_serve_other_machines(settings) -> None:
    settings.MODEL_SERVER_TOKEN = ""
    for host in ("0.0.0.0", "::", "llm-server"):
        with pytest.raises(CommandError, match="MODEL_SERVER_TOKEN"):
            call_command("serve_llm", "model", host=host)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["org/model", "--adapter", "model=folder"], "Several are called model"),
        (["model", "--embedding", "other/model"], "Several are called model"),
        (["model", "--adapter", "=folder"], "name=folder"),
        (["model", "--option", "max_batch"], "key=value"),
        (["model", "--engine", "none"], "There is no engine 'none'"),
        (["models:/gone@champion"], "can't be fetched from MLflow"),
    ],
)
def test_arguments_that_are_wrong(settings, arguments: list[str], message: str) -> None:
    settings.MLFLOW_TRACKING_URI = "none"
    with pytest.raises(CommandError, match=message):
        call_command("serve_llm", *arguments)


# -- with the real engine ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(
    random_model: Path, random_adapters: tuple[Path, ...], embedding_model: Path
) -> Iterator[LanguageServerProcess]:
    with LanguageServerProcess(
        *(str(random_model), "--engine", "transformers", "--name", "real", "--dtype", "float32"),
        *("--adapter", f"tuned={random_adapters[0]}", "--embedding", f"vectors={embedding_model}"),
        *("--option", "max_batch=4", "--option", "cache_tokens=8192"),
    ) as server:
        yield server


@pytest.fixture
def remote(
    real: LanguageServerProcess, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], LoadedModel]]:
    """Its models as another platform has them, through the engine `openai`."""
    monkeypatch.setenv("MODEL_SERVER_KEY", TOKEN)
    with ExitStack() as stack:

        def load(name: str) -> LoadedModel:
            options = {"urls": [real.url], "model": name, "api_key": "MODEL_SERVER_KEY"}
            model = OpenAIEngine().load(ModelSource(f"remote-{name}", "", options=options))
            stack.callback(model.close)
            return model

        yield load


def answered(model: LoadedModel, **request: Any) -> tuple[str, list[Event]]:
    """The text of the first answer, and all events."""
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    model.submit(
        GenerationRequest(**{"id": "r", "messages": user("Say it."), **request}), events.put
    )
    found = [events.get(timeout=60)]
    while not isinstance(found[-1], Ended | Failed):
        found.append(events.get(timeout=60))
    return "".join(one.text for one in found if isinstance(one, Delta) and one.index == 0), found


def test_real_answers_are_the_same_from_afar(
    real: LanguageServerProcess, remote: Callable[[str], LoadedModel]
) -> None:
    """Greedy answers of base and adapter, asked directly and through the other engine."""
    greedy = {"temperature": 0, "max_tokens": 12, "model": "real"}
    direct = real.chat("Say it.", **greedy).json()
    assert direct["usage"]["completion_tokens"] == 12
    sampling = Sampling(max_tokens=12, temperature=0.0, logprobs=2)
    text, events = answered(remote("real"), sampling=sampling)
    assert text == direct["choices"][0]["message"]["content"]
    logprobs = [one for event in events if isinstance(event, Delta) for one in event.logprobs]
    assert len(logprobs) == 12 and all(len(one.top) == 2 for one in logprobs)
    assert events[-2] == Finished(0, "length")
    usage = events[-1].usage if isinstance(events[-1], Ended) else None
    assert usage is not None and usage.prompt == direct["usage"]["prompt_tokens"]
    tuned, _ = answered(remote("tuned"), sampling=sampling)
    by_adapter, _ = answered(
        remote("real"), sampling=sampling, adapter=AdapterSource("ours", "tuned")
    )
    assert (
        tuned
        == by_adapter
        == real.chat("Say it.", **{**greedy, "model": "tuned"}).json()["choices"][0]["message"][
            "content"
        ]
    )
    assert tuned != text


def test_grammars_and_forced_calls_from_afar(remote: Callable[[str], LoadedModel]) -> None:
    """What a random model would never say by itself."""
    model = remote("real")
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    sampling = Sampling(max_tokens=60, grammar=Grammar("json_schema", json.dumps(schema)))
    text, _ = answered(model, sampling=sampling)
    assert json.loads(text) in ({"ok": True}, {"ok": False})
    text, _ = answered(model, sampling=Sampling(max_tokens=20, grammar=Grammar("regex", "[ab]{6}")))
    assert re.fullmatch("[ab]{6}", text)
    function = {"name": "weather", "parameters": schema}
    text, events = answered(
        model,
        tools=[{"type": "function", "function": function}],
        tool_choice={"type": "function", "function": {"name": "weather"}},
        sampling=Sampling(max_tokens=60),
    )
    reader = ToolCallReader(model.tool_format, forced=True)
    start, *arguments = [*reader.feed(text), *reader.finish()]
    assert isinstance(start, CallStart) and start.name == "weather"
    given = "".join(one.fragment for one in arguments if isinstance(one, CallArguments))
    assert json.loads(given) in ({"ok": True}, {"ok": False})
    assert events[-2] == Finished(0, "tool_calls")


def test_a_refusal_from_afar(remote: Callable[[str], LoadedModel]) -> None:
    _, events = answered(remote("real"), messages=user("word " * 5000))
    (failed,) = events
    assert isinstance(failed, Failed)
    assert (failed.status, failed.code) == (400, "context_length_exceeded")
    _, (failed,) = answered(remote("gone"))
    assert isinstance(failed, Failed) and failed.code == "model_not_found"


def test_embeddings_from_afar(
    real: LanguageServerProcess, remote: Callable[[str], LoadedModel]
) -> None:
    found = remote("vectors").embed(["red apples", "green apples", "the moon"])
    near, far = (
        sum(a * b for a, b in zip(found.vectors[0], found.vectors[other], strict=True))
        for other in (1, 2)
    )
    assert near > far and found.tokens > 5
    with pytest.raises(ApplicationError) as caught:
        remote("gone").embed(["x"])
    assert caught.value.code == "model_not_found"
