"""Answers with citations: what the model is given, and what becomes of the numbers it names."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.test import AsyncClient, Client

from llm import held
from llm import tasks as llm_tasks
from llm.models import Chunk, GenerationJob, LanguageModel
from llm.retrieval.answering import NOTHING_FOUND, CitedText, answer_messages, passages_for
from llm.retrieval.searching import Hit
from mlops import engines
from mlops.models import User
from tests.factories import UserFactory
from tests.llm.library import LEASE, MINUTES, WEATHER, read_document
from tests.llm.test_retrieval_search import client_of, index

ANSWERS = "/api/v1/llm/answers"
SAID = "Two percent [1], says the lease [ 1 , 7 ]. The sea is calm [9]. See [note] and [2"


@pytest.mark.parametrize(
    ("said", "shown", "cited"),
    [
        ("All [1] of it [2].", "All [1] of it [2].", [1, 2]),
        ("Both [1, 2] and [2;1]", "Both [1][2] and [2][1]", [1, 2]),
        ("Nothing [0] of [3] this [12].", "Nothing of this.", []),
        ("Half [2, 5].", "Half [2].", [2]),
        ("No [numbers] here, a[0] there", "No [numbers] here, a there", []),
        ("cut off [1", "cut off [1", []),
        (SAID, "Two percent [1], says the lease [1]. The sea is calm. See [note] and [2", [1]),
    ],
)
def test_citations_that_do_not_exist_are_dropped(said: str, shown: str, cited: list[int]) -> None:
    for step in (1, 2, 5, len(said)):
        text = CitedText(2)
        parts = [text.feed(said[at : at + step]) for at in range(0, len(said), step)]
        assert "".join([*parts, text.finish()]) == shown, f"in steps of {step}"
        assert text.cited == cited


# -- through a worker -----------------------------------------------------------------------------


@pytest.fixture
def model(
    transactional_db: None, settings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LanguageModel]:
    """A model with a worker: each request is answered in a thread once its message is sent."""
    settings.ENGINES = {
        **settings.ENGINES,
        "llm": {
            "scripted": {
                "BACKEND": "tests.llm.library.ScriptedEngine",
                "OPTIONS": {"answer": SAID},
            }
        },
    }
    engines._caches.clear()
    begun: list[threading.Thread] = []

    def send(job: Any, *, marked: bool = False) -> bool:
        def run() -> None:
            try:
                llm_tasks.generate(str(job.pk))
            finally:
                connection.close()

        if job.kind == GenerationJob.KIND:
            begun.append(threading.Thread(target=run))
            begun[-1].start()
        return True

    monkeypatch.setattr("mlops.queues.send", send)
    yield LanguageModel.objects.create(name="writer", engine="scripted", source="x")
    for thread in begun:
        thread.join()
    held.holder.close()
    engines._caches.clear()


def ask(client: Client, **body: Any) -> Any:
    return client.post(ANSWERS, {"model": "writer", **body}, content_type="application/json")


def events(client: Client, **body: Any) -> list[dict[str, Any]]:
    """The events of a streamed answer."""
    headers = {"Authorization": client.defaults["HTTP_AUTHORIZATION"]}

    async def read() -> bytes:
        asked = {"model": "writer", "stream": True, **body}
        answer = await AsyncClient().post(
            ANSWERS, asked, content_type="application/json", headers=headers
        )
        assert answer["Content-Type"] == "text/event-stream"
        if not answer.streaming:
            return answer.content
        return b"".join([part async for part in answer.streaming_content])

    lines = async_to_sync(read)().decode().split("\n\n")
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert data.pop() == "[DONE]"
    return [json.loads(one) for one in data]


def test_an_answer_with_its_sources(model: LanguageModel) -> None:
    user = UserFactory()
    results = [read_document(texts, owner=user) for texts in (LEASE, MINUTES, WEATHER)]
    index(*results, read_document(LEASE))
    client = client_of(user)
    answer = ask(client, question="What does a tenant pay?")
    assert answer.status_code == 200, answer.content
    body = answer.json()
    assert body["answer"].startswith("Two percent [1], says the lease [1]. The sea is calm. See")
    [cited] = body["citations"]
    assert (cited["number"], cited["page"], cited["box"]) == (1, 1, [10, 10, 300, 90])
    assert cited["document"]["id"] == str(results[0].job.document_id)
    assert body["passages"] == [{k: v for k, v in cited.items() if k != "number"}]
    assert body["search"]["mode"] == "lexical" and body["usage"]["total_tokens"] > 0
    [prompt] = held.get(model).loaded().prompts
    assert f"[1] {results[0].job.document.name}, page 1\n{LEASE[0]}" in prompt
    assert prompt.endswith("Question: What does a tenant pay?")
    assert "[2]" not in prompt.partition("\n\n")[2], "of what others own nothing is told"

    # Nothing found, nothing asked.
    body = ask(client, question="Where is the submarine?").json()
    assert body["answer"] == NOTHING_FOUND and body["citations"] == body["passages"] == []
    assert body["usage"] is None and GenerationJob.objects.count() == 1
    [only] = events(client, question="Where is the submarine?")
    assert only["answer"] == NOTHING_FOUND

    first, *deltas, last = events(client, question="What does a tenant pay?")
    assert first["object"] == "answer.passages" and len(first["passages"]) == 1
    assert {one["object"] for one in deltas} == {"answer.delta"}
    assert "".join(one["text"] for one in deltas).strip() == last["answer"]
    assert [one["number"] for one in last["citations"]] == [1]

    assert ask(client, question="What?", model="nobody").status_code == 404
    assert ask(client).json()["error"]["param"] == "question"
    assert ask(Client(), question="What?").status_code == 401


def test_what_the_model_is_given_is_bounded(db: None) -> None:
    user: User = UserFactory()
    index(*(read_document([f"passage {n} " + "word " * 120], owner=user) for n in range(6)))
    hits = [Hit(chunk, 1.0) for chunk in Chunk.objects.select_related("document", "page")]
    assert len(passages_for(hits, 0)) == 6
    assert len(passages_for(hits, 900)) == 2
    assert len(passages_for(hits, 10)) == 1, "one in any case"
    [message] = answer_messages("Why?", hits[:2])
    assert message["content"].count("passage ") >= 2 and "[2] " in message["content"]
