"""`/v1/completions` and `/v1/embeddings` as the real `openai` package sees them."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator

import openai
import pytest

from tests.fake_language import vector
from tests.llm.service import Service, service

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def served(settings) -> Iterator[Service]:
    with service(settings) as made:
        made.model("echo")
        made.model("vectors", task="embeddings")
        yield made


@pytest.fixture
def client(served: Service) -> openai.OpenAI:
    return served.client()


class TestCompletions:
    def test_one_prompt(self, served: Service, client: openai.OpenAI) -> None:
        answer = client.completions.create(
            model="echo", prompt="one two three", max_tokens=2, logprobs=1
        )
        assert answer.object == "text_completion" and answer.id.startswith("cmpl-")
        [choice] = answer.choices
        assert (choice.text, choice.finish_reason) == ("one two ", "length")
        assert choice.logprobs.tokens == ["one ", "two "]
        assert choice.logprobs.text_offset == [0, 4]
        assert answer.usage.completion_tokens == 2
        assert served.job().endpoint == "completion"

    def test_choices_of_several_prompts_are_numbered_through(self, client: openai.OpenAI) -> None:
        answer = client.completions.create(model="echo", prompt=["a b", "c"], n=2)
        assert [(one.index, one.text) for one in answer.choices] == [
            (0, "a b"),
            (1, "a b"),
            (2, "c"),
            (3, "c"),
        ]
        assert answer.usage.prompt_tokens == 3 and answer.usage.completion_tokens == 6

    def test_streams_of_several_prompts(self, client: openai.OpenAI) -> None:
        texts, reasons, usage = {0: "", 1: ""}, {}, []
        for chunk in client.completions.create(
            model="echo",
            prompt=["a b", "c d e"],
            stream=True,
            stream_options={"include_usage": True},
        ):
            assert not usage
            for choice in chunk.choices:
                texts[choice.index] += choice.text
                reasons[choice.index] = choice.finish_reason
            if not chunk.choices:
                usage.append(chunk.usage)
        assert texts == {0: "a b", 1: "c d e"} and set(reasons.values()) == {"stop"}
        assert usage[0].prompt_tokens == 5 and usage[0].completion_tokens == 5

    def test_tokens_as_prompt_and_prompts_too_long(self, client: openai.OpenAI) -> None:
        assert client.completions.create(model="echo", prompt=[5, 6]).choices[0].text == "5 6"
        with pytest.raises(openai.BadRequestError) as caught:
            client.completions.create(model="echo", prompt=["short", "word " * 1001])
        assert caught.value.code == "context_length_exceeded"


class TestEmbeddings:
    def test_as_the_client_asks_for_them(self, served: Service, client: openai.OpenAI) -> None:
        answer = client.embeddings.create(model="vectors", input=["a b", "c"])
        assert [one.embedding for one in answer.data] == [vector("a b"), vector("c")]
        assert [one.index for one in answer.data] == [0, 1]
        assert answer.usage.prompt_tokens == answer.usage.total_tokens == 3
        job = served.job()
        assert (job.endpoint, job.prompt_tokens, job.body) == ("embedding", 3, None)

    def test_both_encodings_on_the_wire(self, served: Service) -> None:
        ask = {"model": "vectors", "input": "a b"}
        with served.http() as http:
            plain = http.post("/v1/embeddings", json=ask).json()
            coded = http.post("/v1/embeddings", json={**ask, "encoding_format": "base64"}).json()
        assert plain["data"][0]["embedding"] == vector("a b")
        raw = base64.b64decode(coded["data"][0]["embedding"])
        assert list(struct.unpack("<8f", raw)) == vector("a b")

    def test_what_is_refused(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.BadRequestError) as caught:
            client.embeddings.create(model="vectors", input="a", dimensions=4)
        assert caught.value.param == "dimensions"
        answer = client.embeddings.create(model="vectors", input="a", dimensions=8)
        assert len(answer.data[0].embedding) == 8

        for given in ("", [], ["a", ""]):
            with pytest.raises(openai.BadRequestError) as caught:
                client.embeddings.create(model="vectors", input=given)
            assert caught.value.param == "input"
        with pytest.raises(openai.BadRequestError) as caught:
            client.embeddings.create(model="vectors", input="word " * 1001)
        assert caught.value.code == "context_length_exceeded"
