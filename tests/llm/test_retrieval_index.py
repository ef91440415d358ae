"""Documents indexed, re-indexed and forgotten: rows of a real database, vectors in real Qdrant."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from llm import held
from llm.models import Chunk, DocumentIndex, IndexJob, LanguageModel, SearchJob
from llm.retrieval import tasks, wishes
from llm.retrieval.stores import store
from llm.retrieval.vectors import QdrantStore
from mlops import engines
from mlops.exceptions import EngineUnavailable
from mlops.models import ApiKey, User
from ocr import services
from ocr.models import PageResult
from tests.factories import UserFactory
from tests.llm.library import LEASE, MINUTES, WEATHER, document_of, read_document
from tests.services import free_port

pytestmark = pytest.mark.django_db


@pytest.fixture
def vectors(settings, tmp_path: Path) -> Iterator[None]:
    """An embedding engine without weights, and a folder of Qdrant's."""
    settings.ENGINES = {
        **settings.ENGINES,
        "llm": {"hashing": {"BACKEND": "tests.llm.library.HashingEngine"}},
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
def model(vectors: None) -> LanguageModel:
    return LanguageModel.objects.create(
        name="hashing", engine="hashing", source="a", task=LanguageModel.Task.EMBED
    )


@pytest.fixture
def user() -> User:
    return UserFactory()


@pytest.fixture
def api(user: User) -> Client:
    """A client with the user's key."""
    _key, token = ApiKey.objects.create(user=user)
    return Client(headers={"Authorization": f"Bearer {token}"})


def index(*results: PageResult) -> IndexJob:
    """Has the documents indexed, and does a worker's work."""
    wishes.documents_want([document_of(result).pk for result in results])
    return work()


def work() -> IndexJob:
    job = wishes.index_job_create(owner=None)
    assert tasks.index_documents(str(job.pk))["status"] == "succeeded"
    return IndexJob.objects.get(pk=job.pk)


def points(result: PageResult) -> list[str]:
    """Ids of the document's points in its collection."""
    row = DocumentIndex.objects.get(key=document_of(result).pk)
    client = store()._client
    found, _next = client.scroll(row.collection, limit=1000)
    return sorted(str(point.id) for point in found if point.payload["document"] == str(row.key))


def settle() -> None:
    """Lets the time pass that a wish waits for."""
    passed = timezone.now() - timedelta(seconds=1)
    DocumentIndex.objects.exclude(wanted_at=None).update(wanted_at=passed)


def test_passages_and_their_places(vectors: None) -> None:
    result = read_document(LEASE)
    job = index(result)
    chunk = Chunk.objects.get()
    assert chunk.text.splitlines() == LEASE
    assert (chunk.first_line, chunk.last_line, chunk.box) == (0, 2, [10, 10, 300, 90])
    assert chunk.page == result.page and chunk.result == result
    row = DocumentIndex.objects.get()
    assert (row.chunks, row.claimed_until, row.wanted_at) == (1, None, None)
    assert "No embedding model" in row.note and row.note == job.note and job.embedded == 0
    assert (job.progress_done, job.progress_total) == (1, 1)


def test_indexing_twice_changes_nothing(model: LanguageModel) -> None:
    result = read_document(LEASE)
    assert index(result).embedded == 1
    before = Chunk.objects.get()
    assert points(result) == [str(before.point)]
    assert index(result).embedded == 0, "nothing of it has changed"
    assert Chunk.objects.get().pk == before.pk


def test_the_newest_reading_is_indexed_and_a_reviewed_one_before_it(model: LanguageModel) -> None:
    first = read_document(LEASE)
    second = read_document(MINUTES, document=document_of(first))
    index(first)
    assert Chunk.objects.get().result == second

    user = UserFactory(is_superuser=True)
    review = services.review_begin(result=first)
    services.line_edit(review=review, user=user, version=0, line_id="1", text="Lease, corrected")
    index(first)
    assert Chunk.objects.get().text.startswith("Lease, corrected\n")

    review = services.review_accept(
        review=services.review_begin(result=second), user=user, version=0
    )
    index(first)
    assert Chunk.objects.get().text.splitlines() == MINUTES, "accepted goes before corrected"
    assert len(points(first)) == 1


def test_a_shorter_text_leaves_no_vector_behind(model: LanguageModel) -> None:
    first = read_document(["word " * 60] * 10)
    index(first)
    assert len(points(first)) == Chunk.objects.count() > 3
    read_document(LEASE, document=document_of(first))
    index(first)
    assert points(first) == [str(Chunk.objects.get().point)]


def test_another_model_gets_a_collection_of_its_own(model: LanguageModel) -> None:
    result = read_document(LEASE)
    index(result)
    before = DocumentIndex.objects.get().collection
    model.source = "b"
    model.save()
    index(result)
    after = DocumentIndex.objects.get().collection
    assert before != after and after.endswith("-512")
    assert store()._client.count(before).count == 0, "the old vectors are gone"
    assert len(points(result)) == 1


def test_without_the_models_files_words_are_indexed(model: LanguageModel) -> None:
    LanguageModel.objects.update(source="missing")
    result = read_document(LEASE)
    job = index(result, read_document(MINUTES))
    assert job.status == "succeeded" and "'missing' is not there" in job.note
    assert Chunk.objects.count() == 2
    held.holder.close()
    LanguageModel.objects.update(source="here")
    assert index(result).embedded == 1, "made up for once the model is there"
    assert DocumentIndex.objects.get(key=document_of(result).pk).note == ""


def test_a_folder_open_elsewhere_is_said(model: LanguageModel, settings, tmp_path: Path) -> None:
    other = QdrantStore(path=str(tmp_path / "qdrant"))
    result = read_document(LEASE)
    try:
        assert "QDRANT_URL" in index(result).note
    finally:
        other.close()
    engines._caches.clear()


def test_a_server_that_is_away_is_said() -> None:
    with pytest.raises(EngineUnavailable, match="Check QDRANT_URL"):
        QdrantStore(url=f"http://127.0.0.1:{free_port()}", api_key="k")


# -- kept up to date ------------------------------------------------------------------------------


def due() -> int:
    settle()
    return DocumentIndex.objects.due().count()


def test_what_is_indexed_follows_readings_and_corrections(model: LanguageModel, settings) -> None:
    result = read_document(LEASE)
    services.review_begin(result=result)
    wishes.text_changed(document_id=document_of(result).pk)
    assert not DocumentIndex.objects.exists(), "only what somebody asked for is indexed"
    index(result)
    assert due() == 0
    user = UserFactory(is_superuser=True)
    review = services.review_begin(result=result)
    services.line_edit(review=review, user=user, version=0, line_id="1", text="Rules")
    assert due() == 1
    assert "llm.retrieval.wishes.index_when_due" in settings.MAINTENANCE_STEPS
    assert wishes.index_when_due()
    job = IndexJob.objects.unfinished().get()
    assert not wishes.index_when_due(), "one at a time"
    tasks.index_documents(str(job.pk))
    assert Chunk.objects.get().text.startswith("Rules\n") and due() == 0
    services.review_accept(review=review, user=user, version=1)
    assert due() == 1


def test_auto_indexes_what_was_read(settings) -> None:
    settings.LLM_INDEX = "auto"
    result = read_document(LEASE)
    wishes.text_changed(document_id=document_of(result).pk)
    assert not wishes.index_when_due(), "not before the text has settled"
    assert due() == 1 and wishes.index_when_due()


def test_a_change_while_it_is_indexed_is_not_lost() -> None:
    result = read_document(LEASE)
    index(result)
    key = document_of(result).pk
    DocumentIndex.objects.update(claimed_until=timezone.now() + timedelta(minutes=1))
    wishes.text_changed(document_id=key)
    assert due() == 0, "somebody holds it"
    DocumentIndex.objects.update(claimed_until=None)
    assert due() == 1
    passed = timezone.now() - timedelta(seconds=1)
    DocumentIndex.objects.update(wanted_at=None, claimed_until=passed)
    assert due() == 1, "whoever held it is gone"


def test_a_deleted_document_takes_its_vectors_along(model: LanguageModel) -> None:
    gone, kept = read_document(LEASE), read_document(MINUTES)
    index(gone, kept)
    collection = DocumentIndex.objects.get(key=document_of(kept).pk).collection
    services.document_delete(document=document_of(gone))
    assert Chunk.objects.count() == 1, "its text is gone at once"
    assert wishes.index_when_due()
    work()
    assert store()._client.count(collection).count == 1
    assert DocumentIndex.objects.get().key == document_of(kept).pk


def test_command_and_api(
    user: User, api: Client, model: LanguageModel, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, other = read_document(WEATHER, owner=user), read_document(LEASE)
    state = api.get("/api/v1/llm/index/").json()
    assert state["documents"] == 1 and state["indexed"] == 0 and state["model"] == "hashing"
    answer = api.post("/api/v1/llm/index/", {}, content_type="application/json")
    assert answer.status_code == 202 and answer.json()["documents"] == 1
    assert tasks.index_documents(answer.json()["job"])["status"] == "succeeded"
    assert Chunk.objects.get().document == document_of(mine)
    assert api.get("/api/v1/llm/index").json()["with_vectors"] == 1
    call_command("llm_index")
    assert "2 documents" in capsys.readouterr().err
    work()
    assert Chunk.objects.filter(document=document_of(other)).exists()


def test_with_a_real_model(vectors: None, settings, embedding_model: Path) -> None:
    """Texts that share words come before others, in both languages; long ones are cut to fit."""
    settings.ENGINES["llm"]["transformers"] = {
        "BACKEND": "llm.engines.transformers.TransformersEngine"
    }
    engines._caches.clear()
    user = UserFactory()
    model = LanguageModel.objects.create(
        name="tiny", engine="transformers", source=str(embedding_model), task="embeddings"
    )
    long = read_document(["unspaced" * 900], owner=user)
    results = [read_document(texts, owner=user) for texts in (LEASE, MINUTES, WEATHER)]
    assert index(*results, long).note == ""
    for query, best in (("tenants who pay late", LEASE), ("도서관 회의", MINUTES)):
        job = SearchJob.objects.create(
            kind=SearchJob.KIND, queue="llm", owner=user, query=query, limit=3, model=model
        )
        tasks.search(str(job.pk))
        job.refresh_from_db()
        assert job.status == "succeeded", job.error
        point, score = job.found[0]
        assert Chunk.objects.get(point=point).text.splitlines() == best and 0 < score <= 1.0001
