"""`/v1/chat/completions` as the real `openai` package sees it, down to the field."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import openai
import pytest
from django.test import Client

from llm import held
from llm.models import GenerationJob, Usage
from llm.open_requests import open_requests
from mlops.models import Job
from tests.llm.service import Service, service
from tests.services import wait_for

pytestmark = pytest.mark.django_db(transaction=True)

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture
def served(settings) -> Iterator[Service]:
    with service(settings) as made:
        made.model("echo")
        yield made


@pytest.fixture
def client(served: Service) -> openai.OpenAI:
    return served.client()


def say(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]


def test_an_answer_and_what_is_kept_of_it(served: Service, client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="echo", messages=say("one two three")
    )
    assert raw.headers["x-model"] == "echo" and raw.headers["x-request-id"]
    answer = raw.parse()
    assert answer.object == "chat.completion" and answer.id.startswith("chatcmpl-")
    assert answer.model == "echo"
    [choice] = answer.choices
    assert (choice.message.role, choice.message.content) == ("assistant", "one two three")
    assert choice.finish_reason == "stop"
    assert answer.usage.prompt_tokens == 5 and answer.usage.completion_tokens == 3
    assert answer.usage.total_tokens == 8

    job = served.job()
    assert job.status == Job.Status.SUCCEEDED and job.request_id == raw.headers["x-request-id"]
    assert (job.prompt_tokens, job.completion_tokens) == (5, 3)
    assert job.finish_reason == "stop" and job.first_token_ms > 0
    # Texts are nobody's business unless the model says so.
    assert job.body is None and job.answer is None
    assert (job.owner, job.api_key) == (served.user, served.api_key)
    row = Usage.objects.get()
    assert (row.requests, row.prompt_tokens, row.completion_tokens) == (1, 5, 3)
    assert (row.owner, row.api_key, row.model) == (served.user, served.api_key, job.model)


def test_texts_are_kept_where_the_model_says_so(served: Service, client: openai.OpenAI) -> None:
    served.model("keeps", store_texts=True)
    client.chat.completions.create(model="keeps", messages=say("not a secret"))
    job = served.job()
    assert job.body["messages"][1]["content"] == "not a secret"
    assert job.answer == {"texts": ["not a secret"], "finish_reasons": ["stop"]}


def test_stream(served: Service, client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="echo",
            messages=say("one two three"),
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk.id for chunk in chunks}) == 1
    *body, last = chunks
    assert body[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in body) == "one two three"
    assert body[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in body)
    assert last.choices == [] and last.usage.total_tokens == 8
    job = served.job()
    assert job.streamed and job.max_attempts == 1 and job.body is None


def test_the_wire_form_of_a_stream(served: Service) -> None:
    """What a client without any library sees: lines of data, and the mark of the end."""
    body = {"model": "echo", "messages": say("one two"), "stream": True}
    with served.http() as http, http.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["x-accel-buffering"] == "no"
        blocks = answer.read().decode().split("\n\n")
    assert blocks[-2:] == ["data: [DONE]", ""]
    for block in blocks[:-2]:
        assert "usage" not in json.loads(block.removeprefix("data: "))


def test_several_answers_with_probabilities(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="echo", messages=say("one two"), n=3, logprobs=True, top_logprobs=2
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    for choice in answer.choices:
        first = choice.logprobs.content[0]
        assert (first.token, first.logprob, bytes(first.bytes)) == ("one ", -0.5, b"one ")
        assert [top.logprob for top in first.top_logprobs] == [-1.0, -2.0]
    assert answer.usage.completion_tokens == 6


def test_stop_and_length(client: openai.OpenAI) -> None:
    stopped = client.chat.completions.create(
        model="echo", messages=say("one two three"), stop="two"
    )
    assert (stopped.choices[0].message.content, stopped.choices[0].finish_reason) == (
        "one ",
        "stop",
    )
    cut = client.chat.completions.create(
        model="echo", messages=say("one two three"), max_completion_tokens=2
    )
    assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == ("one two ", "length")


@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls(client: openai.OpenAI, stream: bool) -> None:
    given = {"model": "echo", "messages": say('call weather {"city": "Seoul"}'), "tools": [WEATHER]}
    if not stream:
        choice = client.chat.completions.create(**given).choices[0]
        [call] = choice.message.tool_calls
        assert choice.message.content is None
        assert call.function.name == "weather" and call.id
        assert json.loads(call.function.arguments) == {"city": "Seoul"}
        assert choice.finish_reason == "tool_calls"
        return
    name, arguments, reasons = "", "", []
    for chunk in client.chat.completions.create(**given, stream=True):
        reasons.append(chunk.choices[0].finish_reason)
        for call in chunk.choices[0].delta.tool_calls or []:
            name += call.function.name or ""
            arguments += call.function.arguments or ""
    assert (name, json.loads(arguments), reasons[-1]) == (
        "weather",
        {"city": "Seoul"},
        "tool_calls",
    )


def test_json_by_schema(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"count": {"type": "integer"}}}
    answer = client.chat.completions.create(
        model="echo",
        messages=say("how many?"),
        response_format={"type": "json_schema", "json_schema": {"name": "count", "schema": schema}},
    )
    assert json.loads(answer.choices[0].message.content) == {"count": 7}


def test_the_async_client(served: Service) -> None:
    async def both() -> tuple[str, str]:
        async with served.async_client() as client:
            whole, stream = await asyncio.gather(
                client.chat.completions.create(model="echo", messages=say("a b")),
                client.chat.completions.create(model="echo", messages=say("c d"), stream=True),
            )
            parts = [chunk.choices[0].delta.content or "" async for chunk in stream]
        return whole.choices[0].message.content, "".join(parts)

    assert asyncio.run(both()) == ("a b", "c d")


def test_a_language_other_than_english(client: openai.OpenAI) -> None:
    text = "안녕하세요 세계 🙂"
    stream = client.chat.completions.create(model="echo", messages=say(text), stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == text


class TestRefused:
    def refused(self, client: openai.OpenAI, **given: object) -> openai.APIStatusError:
        with pytest.raises(openai.APIStatusError) as caught:
            client.chat.completions.create(**{"model": "echo", "messages": say("x"), **given})
        return caught.value

    def test_before_a_worker_is_asked(self, served: Service, client: openai.OpenAI) -> None:
        served.model("off", enabled=False)
        served.model("vectors", task="embeddings")
        schema = {"name": "x", "schema": {"type": "objekt"}}
        for given, status, param, code in (
            ({"model": "nobody"}, 404, "model", "model_not_found"),
            ({"model": "org/nobody"}, 404, "model", "model_not_found"),
            ({"model": "off"}, 404, "model", "model_not_found"),
            ({"model": "vectors"}, 400, "model", "model_not_supported"),
            ({"model": ""}, 400, "model", "invalid_value"),
            ({"temperature": 9}, 400, "temperature", "invalid_value"),
            (
                {"response_format": {"type": "json_schema", "json_schema": schema}},
                400,
                "response_format.json_schema.schema",
                "invalid_json_schema",
            ),
        ):
            for stream in (False, True):
                error = self.refused(client, **given, stream=stream)
                assert (error.status_code, error.param, error.code) == (status, param, code)
                assert error.response.headers["x-request-id"]
        with served.http() as http:
            answer = http.post("/v1/chat/completions", content=b"{broken")
        assert answer.status_code == 400 and answer.json()["error"]["code"] == "parse_error"
        assert self.refused(served.client(api_key="mk-wrong")).status_code == 401
        assert not GenerationJob.objects.exists()

    def test_by_the_engine(self, served: Service, client: openai.OpenAI) -> None:
        """A status even where a stream was asked for: nothing has been sent yet."""
        served.model("damaged")
        for stream in (False, True):
            error = self.refused(client, messages=say("word " * 1001), stream=stream)
            assert (error.status_code, error.code) == (400, "context_length_exceeded")
            assert "1003" in error.message
            job = served.job()
            assert (job.status, job.error_code) == ("failed", "context_length_exceeded")
            assert job.body is None
            error = self.refused(client, model="damaged", stream=stream)
            assert (error.status_code, error.code) == (503, "engine_unavailable")
            assert "no readable weights" in error.message
            assert error.response.headers["retry-after"] == "30"

    def test_session_without_the_token_of_its_forms(self, served: Service) -> None:
        """The console's cookie alone must not be enough: any site could send it along."""
        browser = Client()
        browser.force_login(served.user)
        body = {"model": "echo", "messages": say("x")}
        with served.http() as http:
            del http.headers["Authorization"]
            for name, morsel in browser.cookies.items():
                http.cookies.set(name, morsel.value)
            assert http.post("/v1/chat/completions", json=body).status_code == 403
            http.cookies.set("csrftoken", "a" * 32)
            http.headers["X-CSRFToken"] = "a" * 32
            answer = http.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        assert served.job().api_key is None


class TestFailures:
    def test_engine_fails(self, served: Service, client: openai.OpenAI) -> None:
        with pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(model="echo", messages=say("fail 2"))
        assert caught.value.code == "engine_failed"
        stream = client.chat.completions.create(model="echo", messages=say("fail 2"), stream=True)
        with pytest.raises(openai.APIError) as caught:
            list(stream)
        assert caught.value.code == "engine_failed"
        assert served.job().error_code == "engine_failed"

    def test_no_worker_is_free(self, served: Service, client: openai.OpenAI, settings) -> None:
        settings.LLM_QUEUE_SECONDS = 0
        served.working.clear()
        with pytest.raises(openai.APIStatusError) as caught:
            client.chat.completions.create(model="echo", messages=say("x"), stream=True)
        assert (caught.value.status_code, caught.value.code) == (503, "no_worker_free")
        assert caught.value.response.headers["retry-after"] == "5"
        assert wait_for(lambda: served.latest().status == "failed")
        assert wait_for(lambda: served.latest().body is None)


def test_an_operators_cancel_is_told(settings) -> None:
    with service(settings, delay=0.005) as served:
        served.model("echo")
        stream = served.client().chat.completions.create(
            model="echo", messages=say("count 100000"), stream=True
        )
        next(iter(stream))
        with served.http() as http:
            path = f"/api/v1/llm/requests/{served.latest().pk}"
            assert http.get(path).json()["status"] == "running"
            assert http.post(f"{path}/cancel").status_code == 202
            with pytest.raises(openai.APIError) as caught:
                list(stream)
            assert caught.value.code == "cancelled"
            assert served.job().status == "cancelled"
            [listed] = http.get("/api/v1/llm/requests", params={"status": "cancelled"}).json()[
                "results"
            ]
        assert (listed["model"], listed["body"]) == ("echo", None)
        assert listed["completion_tokens"] > 0


def test_hanging_up_stops_the_generation(settings, tmp_path) -> None:
    """The worker is let on word by word only once the client has gone: it must not go on."""
    gate = tmp_path / "gate"
    gate.touch()
    with service(settings, gate=str(gate), delay=0.002) as served:
        served.model("echo")
        stream = served.client().chat.completions.create(
            model="echo", messages=say("count 900"), stream=True
        )
        for _seen, _chunk in zip(range(5), stream, strict=False):
            pass
        gate.unlink()
        stream.close()
        [mine] = open_requests._open.values()
        assert wait_for(lambda: mine.stopped)
        [running] = held.holder.models()[0].loaded()._open.values()
        made = running.completion_tokens
        gate.touch()
        job = served.job()
        assert job.status == "cancelled" and job.finish_reason == "cancelled"
        assert 5 <= job.completion_tokens <= made + 2 and job.body is None
        # What was made is counted all the same.
        assert Usage.objects.get().completion_tokens == job.completion_tokens
