"""A real model behind the API: weights in memory, tokens that are its own, text that is right."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from llm import held
from tests.llm.service import Service, service

pytestmark = pytest.mark.django_db(transaction=True)

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 10}, "count": {"type": "integer"}},
    "required": ["name", "count"],
    "additionalProperties": False,
}


@pytest.fixture
def served(settings, random_model: Path, random_adapters: tuple[Path, ...]) -> Iterator[Service]:
    engines = dict(settings.ENGINES["llm"])
    with service(settings) as made:
        settings.ENGINES = {**settings.ENGINES, "llm": engines}
        held.engines._caches.clear()
        model = {"engine": "transformers", "device": "cpu", "dtype": "float32"}
        base = made.model("random", **model, source=str(random_model))
        for number, folder in enumerate(random_adapters[:2], 1):
            made.model(f"tuned-{number}", **model, source=str(folder), base=base)
        yield made


def ask(client: openai.OpenAI, model: str, **given: object) -> str:
    given = {"temperature": 0, "max_tokens": 12, **given}
    messages = [{"role": "user", "content": "Say something."}]
    answer = client.chat.completions.create(model=model, messages=messages, **given)
    return answer.choices[0].message.content


def test_adapters_constraints_and_streams_at_once(served: Service) -> None:
    client = served.client()
    alone = {name: ask(client, name) for name in ("random", "tuned-1", "tuned-2")}
    # Each has its own weights, and none is silently the base.
    assert len(set(alone.values())) == 3

    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    given = ask(client, "random", temperature=1, seed=3, max_tokens=200, response_format=form)
    assert set(json.loads(given)) == {"name", "count"}

    async def together() -> list[str]:
        async with served.async_client() as many:

            async def one(name: str) -> str:
                stream = await many.chat.completions.create(
                    model=name,
                    messages=[{"role": "user", "content": "Say something."}],
                    temperature=0,
                    max_tokens=12,
                    stream=True,
                )
                return "".join([c.choices[0].delta.content or "" async for c in stream])

            return await asyncio.gather(*(one(name) for name in list(alone) * 3))

    assert asyncio.run(together()) == list(alone.values()) * 3
    job = served.job()
    assert job.completion_tokens == 12 and job.finish_reason == "length"


def test_context_is_the_models_own(served: Service) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        served.client().chat.completions.create(
            model="random", messages=[{"role": "user", "content": "word " * 20_000}]
        )
    assert caught.value.code == "context_length_exceeded"


def test_damaged_folder(served: Service, random_model: Path, tmp_path: Path) -> None:
    for file in random_model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    [weights] = tmp_path.glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:1000])
    served.model("broken", engine="transformers", source=str(tmp_path))
    with pytest.raises(openai.APIStatusError) as caught:
        served.client().chat.completions.create(
            model="broken", messages=[{"role": "user", "content": "x"}]
        )
    assert (caught.value.status_code, caught.value.code) == (503, "engine_unavailable")
