"""Search by words and by meaning: the same on every database, and only what one may see."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from llm import held
from llm.models import Chunk, DocumentIndex, LanguageModel, SearchJob
from llm.retrieval import lexical, tasks, wishes
from llm.retrieval.embedding import collection_name
from llm.retrieval.lexical import lexical_search
from llm.retrieval.stores import store
from mlops import engines
from mlops.models import ApiKey, Job, QueuePulse, User
from ocr import services
from ocr.models import Document, PageResult
from tests.factories import StaffFactory, UserFactory
from tests.llm.library import LEASE, MINUTES, WEATHER, document_of, read_document

SEARCH = "/api/v1/llm/search"


def index(*results: PageResult) -> None:
    wishes.documents_want([document_of(result).pk for result in results])
    job = wishes.index_job_create(owner=None)
    assert tasks.index_documents(str(job.pk))["status"] == "succeeded"


def client_of(user: User) -> Client:
    _key, token = ApiKey.objects.create(user=user)
    return Client(headers={"Authorization": f"Bearer {token}"})


def ask(client: Client, query: str, **more: Any) -> dict[str, Any]:
    answer = client.post(SEARCH, {"query": query, **more}, content_type="application/json")
    assert answer.status_code == 200, answer.content
    return answer.json()


def first_lines(found: dict[str, Any]) -> list[str]:
    return [hit["text"].split("\n")[0] for hit in found["hits"]]


# -- by words -------------------------------------------------------------------------------------


@pytest.fixture
def library(db: None) -> User:
    """Three documents of one user, indexed without vectors."""
    user = UserFactory()
    index(*(read_document(texts, owner=user) for texts in (LEASE, MINUTES, WEATHER)))
    return user


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("penalty for paying late", LEASE[0]),
        ("tenants", LEASE[0]),
        ("1250000", LEASE[0]),
        ("도서관", MINUTES[0]),
        ("도서관은 어디에서", MINUTES[0]),
        ("예산", MINUTES[0]),
        ("FERRY", WEATHER[0]),
    ],
)
def test_words_are_found_with_their_endings(library: User, query: str, first: str) -> None:
    found = ask(client_of(library), query)
    assert first_lines(found) == [first]
    assert found["mode"] == "lexical" and "No embedding model" in found["note"]


def test_a_hit_says_where_it_stands(library: User) -> None:
    [hit] = ask(client_of(library), "rent 1,250,000 won", mode="lexical")["hits"]
    result = PageResult.objects.get(text__startswith=LEASE[0])
    assert hit["document"] == {
        "id": str(document_of(result).pk),
        "name": document_of(result).name,
    }
    assert (hit["page"], hit["width"], hit["height"], hit["box"]) == (
        1,
        320,
        400,
        [10, 10, 300, 90],
    )
    assert [hit["text"][start:end] for start, end in hit["marks"]] == ["rent", "1,250,000", "won"]
    assert hit["lines"][1] == {"line": 1, "start": 26, "box": [10, 40, 300, 60]}
    image = client_of(library).get(hit["image"])
    assert image.status_code == 200 and image["Content-Type"] == "image/jpeg"


def test_what_is_not_there_is_not_found(library: User) -> None:
    assert ask(client_of(library), "submarine 잠수함")["hits"] == []
    assert ask(client_of(library), "the submarine of the commander's fleet")["hits"] == []


def test_rare_words_weigh_more_and_long_passages_less(db: None) -> None:
    user = UserFactory()
    common = [read_document([f"report number {n} on water"], owner=user) for n in range(8)]
    rare = read_document(["report on copper"], owner=user)
    long = read_document(["report on copper and on " + "other matters " * 40], owner=user)
    index(*common, rare, long)
    scored = lexical_search(Document.objects.all(), "a report on copper", limit=20)
    order = [Chunk.objects.get(pk=pk).result for pk, _score in scored]
    assert order[:2] == [rare, long]
    assert scored == sorted(scored, key=lambda one: -one[1])


def test_the_weightiest_passages_are_looked_at(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    user = UserFactory()
    monkeypatch.setattr(lexical, "CANDIDATES", 2)
    texts = [["gold"], ["gold"], ["gold silver"], ["gold silver copper"]]
    index(*(read_document(one, owner=user) for one in texts))
    found = ask(client_of(user), "gold silver copper", mode="lexical")
    assert first_lines(found) == ["gold silver copper", "gold silver"]


def test_only_what_one_may_see(library: User) -> None:
    stranger = UserFactory()
    index(read_document(LEASE, owner=stranger))
    mine = {document.pk for document in library.documents.all()}
    for mode in ("auto", "lexical"):
        hits = ask(client_of(library), "tenant penalty", mode=mode)["hits"]
        assert len(hits) == 1 and hits[0]["document"]["id"] in map(str, mine)
    assert ask(client_of(UserFactory()), "tenant")["hits"] == []
    assert len(ask(client_of(StaffFactory(role="operator")), "tenant")["hits"]) == 2


def test_only_in_the_documents_named(library: User) -> None:
    documents = {one.pk: one for one in library.documents.all()}
    chunk = Chunk.objects.get(text__startswith=WEATHER[0])
    found = ask(client_of(library), "tenant 도서관 ferry", documents=[str(chunk.document_id)])
    assert first_lines(found) == [WEATHER[0]]
    other = document_of(read_document(LEASE))
    assert other.pk not in documents
    answer = client_of(library).post(
        SEARCH, {"query": "rent", "documents": [str(other.pk)]}, content_type="application/json"
    )
    assert answer.status_code == 404
    assert answer.json()["error"]["param"] == "documents"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "required"),
        ({"query": "?!"}, "empty_query"),
        ({"query": "a", "mode": "magic"}, "invalid_choice"),
        ({"query": "a", "limit": 1000}, "max_value"),
        ({"query": "a" * 3000}, "max_length"),
    ],
)
def test_what_is_refused(library: User, body: dict[str, Any], code: str) -> None:
    answer = client_of(library).post(SEARCH, body, content_type="application/json")
    assert answer.status_code == 400 and answer.json()["error"]["code"] == code
    assert Client().post(SEARCH, body, content_type="application/json").status_code == 401


def test_a_query_is_never_a_command_of_the_database(library: User) -> None:
    for query in ("' | 'x", '" OR terms:a', "a:*", "rent' AND 'won", "NEAR(rent won)", "rent*"):
        ask(client_of(library), query)


def test_a_deleted_document_is_not_found(library: User) -> None:
    services.document_delete(document=Chunk.objects.get(text__startswith=LEASE[0]).document)
    assert ask(client_of(library), "tenant")["hits"] == []
    assert first_lines(ask(client_of(library), "ferry")) == [WEATHER[0]]


# -- by meaning -----------------------------------------------------------------------------------


@pytest.fixture
def vectors(settings, tmp_path: Path) -> Iterator[None]:
    """To this engine a lessee is a tenant."""
    options = {"alike": {"lessee": "tenant", "boat": "ferry"}}
    settings.ENGINES = {
        **settings.ENGINES,
        "llm": {"hashing": {"BACKEND": "tests.llm.library.HashingEngine", "OPTIONS": options}},
        "vectors": {
            "qdrant": {
                "BACKEND": "llm.retrieval.vectors.QdrantStore",
                "OPTIONS": {"path": str(tmp_path / "qdrant")},
            }
        },
    }
    engines._caches.clear()
    yield
    held.holder.close()
    store().close()
    engines._caches.clear()


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """Does each search in a thread of its own once its message is sent, as a worker would."""
    QueuePulse.objects.create(queue="llm", seen_at=timezone.now(), worker="w")
    begun: list[threading.Thread] = []

    def send(job: Any, *, marked: bool = False) -> bool:
        def run() -> None:
            try:
                tasks.search(str(job.pk))
            finally:
                connection.close()

        if job.kind == SearchJob.KIND:
            begun.append(threading.Thread(target=run))
            begun[-1].start()
        return True

    monkeypatch.setattr("mlops.queues.send", send)
    return begun


@pytest.fixture
def meanings(
    transactional_db: None, vectors: None, worker: list[threading.Thread]
) -> Iterator[User]:
    """The three documents, and one of somebody else, with vectors."""
    user = UserFactory()
    LanguageModel.objects.create(name="e", engine="hashing", source="a", task="embeddings")
    mine = [read_document(texts, owner=user) for texts in (LEASE, MINUTES, WEATHER)]
    index(*mine, read_document(LEASE))
    yield user
    for thread in worker:
        thread.join()


def test_meanings_are_found_but_only_of_what_one_may_see(meanings: User) -> None:
    client = client_of(meanings)
    assert ask(client, "lessee", mode="lexical")["hits"] == []
    found = ask(client, "lessee", mode="vector", limit=1)
    assert first_lines(found) == [LEASE[0]] and found["mode"] == "vector"
    assert found["note"] is None
    both = ask(client, "lessee boat 도서관")
    assert both["mode"] == "hybrid" and first_lines(both)[0] == MINUTES[0], "found by both"
    assert set(first_lines(both)) == {LEASE[0], MINUTES[0], WEATHER[0]}
    assert not SearchJob.objects.exists(), "queries are not kept"

    found = ask(client_of(meanings), "lessee boat 회의", mode="vector", limit=50)
    assert {hit["document"]["id"] for hit in found["hits"]} == {
        str(one.pk) for one in meanings.documents.all()
    }
    only = Chunk.objects.get(text__startswith=WEATHER[0]).document
    query = "lessee boat 회의"
    found = ask(client_of(meanings), query, mode="vector", documents=[str(only.pk)])
    assert first_lines(found) == [WEATHER[0]]
    everybody = ask(client_of(StaffFactory(role="operator")), "lessee", mode="vector")
    assert first_lines(everybody)[:2] == [LEASE[0], LEASE[0]]


def test_stale_vectors_find_nothing_and_no_worker_finds_words(meanings: User) -> None:
    DocumentIndex.objects.update(note="The vectors are being made.")
    found = ask(client_of(meanings), "lessee", mode="vector")
    assert found["mode"] == "lexical" and "No document has vectors" in found["note"]
    first = DocumentIndex.objects.filter(document__owner=meanings).first()
    DocumentIndex.objects.exclude(pk=first.pk).update(note="")
    found = ask(client_of(meanings), "lessee boat 회의", mode="vector")
    assert len(found["hits"]) == 2 and "1 document has no vectors yet" in found["note"]

    QueuePulse.objects.all().delete()
    Job.objects.filter(queue="llm").delete()
    found = ask(client_of(meanings), "tenant")
    assert found["mode"] == "lexical" and "No worker of the queue 'llm'" in found["note"]
    assert first_lines(found) == [LEASE[0]]


def test_a_search_that_fails_or_is_late_says_why(
    meanings: User, settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    LanguageModel.objects.update(options={"changed": True})
    held.holder.close()
    index(*PageResult.objects.all())
    held.holder.close()
    LanguageModel.objects.update(source="missing")
    model = LanguageModel.objects.get()
    DocumentIndex.objects.update(collection=collection_name(model, 512))
    found = ask(client_of(meanings), "tenant")
    assert found["mode"] == "lexical" and "'missing' is not there" in found["note"]
    assert first_lines(found) == [LEASE[0]]

    settings.LLM_SEARCH_WAIT_SECONDS = 0.05
    monkeypatch.setattr("mlops.queues.send", lambda job, marked=False: True)
    found = ask(client_of(meanings), "tenant")
    assert found["mode"] == "lexical" and "No worker has answered in time" in found["note"]
    assert not SearchJob.objects.exists()


# -- the console ----------------------------------------------------------------------------------


def test_console(library: User) -> None:
    user = StaffFactory(role="annotator")
    index(read_document(LEASE, owner=user))
    read_document(LEASE, owner=user)
    LanguageModel.objects.create(name="writer", source="x")
    LanguageModel.objects.create(name="vectors", source="y", task="embeddings")
    console = Client()
    console.force_login(user)
    page = console.get("/admin/llm/search/").content.decode()
    assert "1 of 2 documents indexed" in page and "0 with vectors of vectors" in page
    assert '<option value="writer">' in page and '<option value="vectors">' not in page
    assert 'href="/admin/llm/search/"' in page, "the sidebar leads there"
    nobody = Client()
    nobody.force_login(StaffFactory())
    assert nobody.get("/admin/llm/search/").status_code == 403
