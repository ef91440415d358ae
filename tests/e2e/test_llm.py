"""Language models over HTTP as people use them: OpenAI's own client, LangChain, curl."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from tests.services import PostgresServer, RedisServer, wait_for
from tests.stack import Stack

pytestmark = pytest.mark.e2e

ENGINE = "tests.fakes.FakeLanguageEngine"
# Enough to be sure of none being in another's way; the benchmark opens 200.
STREAMS = 50
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """While this file is missing, the model `gated` makes no token."""
    return tmp_path_factory.mktemp("gate") / "gate"


def engines(gate: Path) -> str:
    gated = {"BACKEND": ENGINE, "OPTIONS": {"gate": str(gate)}}
    return json.dumps({"fake": {"BACKEND": ENGINE}, "gated": gated})


@pytest.fixture(scope="module", params=["redis", "embedded"])
def stack(request: pytest.FixtureRequest, gate: Path) -> Iterator[Stack]:
    """On PostgreSQL and Redis with gunicorn and a worker; and as `manage.py run` starts it."""
    env = {"LLM_ENGINES": engines(gate), "ENGINES_PRELOAD": "", "READY_QUEUES": "llm"}
    if request.param == "embedded":
        with Stack(**env) as stack:
            stack.start("run", "manage.py", "run", "--port", str(stack.port))
            yield prepared(stack)
        return
    with (
        PostgresServer() as postgres,
        RedisServer() as redis,
        Stack(**env, DATABASE_URL=postgres.url, REDIS_URL=redis.url) as stack,
    ):
        stack.web()
        stack.llm_worker()
        yield prepared(stack)


def prepared(stack: Stack) -> Stack:
    stack.ready()
    for model in (
        {"name": "org/echo", "engine": "fake"},
        {"name": "tuned", "engine": "fake", "base": "org/echo"},
        {"name": "gated", "engine": "gated"},
        {"name": "vectors", "engine": "fake", "task": "embeddings"},
    ):
        made = stack.client.post("/api/v1/llm/models/", json={"source": "x", **model})
        assert made.status_code == 201, made.text
    return stack


def options(stack: Stack) -> dict[str, str]:
    """All that a client is told."""
    key = stack.client.headers["Authorization"].removeprefix("Bearer ")
    return {"base_url": f"http://127.0.0.1:{stack.port}/v1", "api_key": key}


def say(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def text_of(stream: Any) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream)


def test_openai_client(stack: Stack) -> None:
    with openai.OpenAI(**options(stack)) as client:
        chat = client.chat.completions
        ask = {"model": "org/echo", "messages": say("one two three")}
        answer = chat.create(**ask, n=2, logprobs=True, top_logprobs=1)
        assert [one.message.content for one in answer.choices] == ["one two three"] * 2
        assert len(answer.choices[0].logprobs.content) == 3
        assert answer.usage.completion_tokens == 6
        assert text_of(chat.create(**ask, stream=True)) == "one two three"
        assert text_of(chat.create(**{**ask, "model": "tuned"}, stream=True)).startswith("tuned: ")
        called = chat.create(
            model="org/echo", messages=say('call weather {"city": "Seoul"}'), tools=[WEATHER]
        ).choices[0]
        assert called.finish_reason == "tool_calls"
        assert json.loads(called.message.tool_calls[0].function.arguments) == {"city": "Seoul"}
        form = chat.create(**ask, response_format={"type": "json_object"})
        assert json.loads(form.choices[0].message.content) == {}
        assert client.completions.create(model="org/echo", prompt="a b").choices[0].text == "a b"
        vectors = client.embeddings.create(model="vectors", input=["a", "b", "a"]).data
        assert vectors[0].embedding == vectors[2].embedding != vectors[1].embedding
        assert {model.id for model in client.models.list()} >= {"org/echo", "tuned", "vectors"}
        assert client.models.retrieve("org/echo").id == "org/echo"
        with pytest.raises(openai.NotFoundError):
            chat.create(**{**ask, "model": "nobody"})
        with pytest.raises(openai.BadRequestError):
            chat.create(model="org/echo", messages=say("word " * 2000), stream=True)


def test_langchain(stack: Stack) -> None:
    @tool
    def weather(city: str) -> str:
        """Tells the weather."""
        return city

    model = ChatOpenAI(model="org/echo", **options(stack))
    assert model.invoke("one two").content == "one two"
    assert "".join(piece.content for piece in model.stream("one two")) == "one two"
    [call] = model.bind_tools([weather]).invoke('call weather {"city": "Seoul"}').tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Seoul"})
    schema = {
        "title": "count",
        "type": "object",
        "properties": {"count": {"type": "integer"}},
        "required": ["count"],
        "additionalProperties": False,
    }
    structured = model.with_structured_output(schema, method="json_schema")
    assert structured.invoke("how many?") == {"count": 7}


def test_curl(stack: Stack) -> None:
    curl = shutil.which("curl")
    assert curl, "apt-get install -y curl"
    given = options(stack)
    body = {"model": "org/echo", "messages": say("one two"), "stream": True}
    done = subprocess.run(
        [
            *(curl, "--silent", "--no-buffer", f"{given['base_url']}/chat/completions"),
            *("-H", f"Authorization: Bearer {given['api_key']}"),
            *("-H", "Content-Type: application/json", "-d", json.dumps(body)),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("data: {") and done.stdout.endswith("data: [DONE]\n\n")
    assert '"content":"one two"' in done.stdout or '"content":"one "' in done.stdout


def test_open_streams_hold_up_no_other_request(stack: Stack, gate: Path) -> None:
    """Fifty streams that wait for their model; meanwhile others are answered, and all end."""
    gate.unlink(missing_ok=True)

    async def all_of_them() -> list[str]:
        async with openai.AsyncOpenAI(**options(stack), timeout=100, max_retries=0) as client:

            async def one(number: int) -> str:
                stream = await client.chat.completions.create(
                    model="gated", messages=say(f"stream {number}"), stream=True
                )
                return "".join([c.choices[0].delta.content or "" async for c in stream])

            waiting = [asyncio.create_task(one(number)) for number in range(STREAMS)]
            # As many of them as the worker has threads keep it busy; the site answers all the same.
            while True:
                await asyncio.sleep(0.05)
                models = await asyncio.to_thread(instances, stack)
                if sum(one["active_requests"] for one in models) >= 20:
                    break
            health = await asyncio.to_thread(stack.client.get, "/health")
            assert health.status_code == 200
            assert len((await client.models.list()).data) >= 4
            assert not any(task.done() for task in waiting)
            gate.touch()
            return await asyncio.gather(*waiting)

    assert asyncio.run(all_of_them()) == [f"stream {number}" for number in range(STREAMS)]


def instances(stack: Stack) -> list[dict[str, Any]]:
    [gated] = stack.client.get("/api/v1/llm/models", params={"name": "gated"}).json()["results"]
    return gated["instances"]


def test_warm_models_are_there_before_anybody_asks(stack: Stack) -> None:
    made = stack.client.post(
        "/api/v1/llm/models", json={"name": "warm", "engine": "fake", "source": "x"}
    ).json()
    path = f"/api/v1/llm/models/{made['id']}"

    def states() -> list[str]:
        return [one["state"] for one in stack.client.get(path).json()["instances"]]

    assert states() == []
    assert stack.client.post(f"{path}/load").status_code == 202
    assert wait_for(lambda: states() == ["ready"])
    assert stack.client.post(f"{path}/unload").status_code == 202
    assert wait_for(lambda: states() == [])
