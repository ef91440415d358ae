"""Batches: each line answered once; resumed, cancelled, expired, written as files."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.conf import LazySettings
from django.utils import timezone

from llm.batch import run as batch_run
from llm.batch.upkeep import batches_settle, files_expire
from llm.models import BatchLine, LanguageModel, LlmBatch, StoredFile, Usage
from llm.services.batches import llm_batch_cancel, llm_batch_retry
from mlops.exceptions import NotAllowed
from mlops.jobs import JobContext, WorkerStopping
from mlops.models import ApiKey, Job, User
from mlops.services import job_cancel
from tests.factories import UserFactory
from tests.llm.batch_steps import chat, records, run, submit

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("fake_engine")]


@pytest.fixture
def user() -> User:
    return UserFactory()


@pytest.fixture
def model() -> LanguageModel:
    return LanguageModel.objects.create(name="tiny", engine="fake", source="somewhere")


# -- answered ---------------------------------------------------------------------------------


def test_every_line_is_answered_and_written(user: User, model: LanguageModel) -> None:
    batch = submit(user, [chat("one", "first words"), "", chat("two", "other words")])
    assert (batch.state, batch.status) == ("validating", Job.Status.QUEUED)
    run(batch)
    assert (batch.state, batch.error) == ("completed", "")
    assert (batch.total, batch.completed, batch.failed) == (2, 2, 0)
    assert (batch.progress_done, batch.progress_total) == (2, 2)
    assert batch.in_progress_at and batch.finalizing_at and batch.model == model
    assert batch.error_file is None
    first, second = records(batch.output_file)
    assert (first["custom_id"], second["custom_id"]) == ("one", "two")
    assert first["error"] is None and first["id"].startswith("batch_req_")
    assert first["response"]["status_code"] == 200
    body = first["response"]["body"]
    assert body["object"] == "chat.completion" and body["model"] == "tiny"
    assert body["choices"][0]["message"]["content"] == "first words"
    assert batch.output_file.purpose == StoredFile.Purpose.BATCH_OUTPUT
    assert batch.output_file.owner == user
    # The lines have done their part.
    assert not batch.lines.exists()


def test_usage_and_tokens_are_counted(user: User, model: LanguageModel) -> None:
    key, _token = ApiKey.objects.create(user=user)
    batch = run(submit(user, [chat(f"n{n}", "three words here") for n in range(5)], api_key=key))
    assert (batch.prompt_tokens, batch.completion_tokens) == (15, 15)
    [used] = Usage.objects.all()
    assert (used.owner, used.api_key, used.model) == (user, key, model)
    assert (used.requests, used.prompt_tokens, used.completion_tokens) == (5, 15, 15)
    record = batch.run_record()
    assert record.params["model"] == "tiny" and record.metrics["completed"] == 5
    assert record.experiment == "llm" and record.succeeded
    assert batch.tracking == Job.Tracking.PENDING


def test_many_more_lines_than_the_window(
    user: User, model: LanguageModel, settings: LazySettings
) -> None:
    settings.LLM_BATCH_WINDOW = 8
    batch = run(submit(user, [chat(f"n{n}", f"text {n}") for n in range(100)]))
    found = records(batch.output_file)
    assert [one["custom_id"] for one in found] == [f"n{n}" for n in range(100)]
    answers = [one["response"]["body"]["choices"][0]["message"]["content"] for one in found]
    assert answers == [f"text {n}" for n in range(100)]
    assert len({one["id"] for one in found}) == 100


def test_embeddings(user: User) -> None:
    LanguageModel.objects.create(name="vectors", engine="fake", task="embeddings")
    line = {
        "custom_id": "v",
        "method": "POST",
        "url": "/v1/embeddings",
        "body": {"model": "vectors", "input": ["one two", "three"]},
    }
    batch = run(submit(user, [line], LlmBatch.Endpoint.EMBEDDING))
    assert batch.state == "completed", batch.line_errors
    [found] = records(batch.output_file)
    assert [len(one["embedding"]) for one in found["response"]["body"]["data"]] == [8, 8]
    assert batch.prompt_tokens == 3


def test_completions_with_several_prompts(user: User, model: LanguageModel) -> None:
    line = {
        "custom_id": "c",
        "method": "POST",
        "url": "/v1/completions",
        "body": {"model": "tiny", "prompt": ["one two", "three"], "n": 2},
    }
    batch = run(submit(user, [line], LlmBatch.Endpoint.COMPLETION))
    [found] = records(batch.output_file)
    body = found["response"]["body"]
    assert body["object"] == "text_completion" and body["id"].startswith("cmpl-")
    texts = [(one["index"], one["text"]) for one in body["choices"]]
    assert texts == [(0, "one two"), (1, "one two"), (2, "three"), (3, "three")]
    assert batch.completion_tokens == body["usage"]["completion_tokens"] == 6


def test_tools_and_schemas_are_followed(user: User, model: LanguageModel) -> None:
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    schema = {"type": "object", "properties": {"total": {"type": "integer"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "sum", "schema": schema}}
    lines = [
        chat("tool", 'call add {"a": 1}', tools=[tool]),
        chat("json", "whatever", response_format=wanted),
    ]
    batch = run(submit(user, lines))
    called, given = (one["response"]["body"]["choices"][0] for one in records(batch.output_file))
    assert called["finish_reason"] == "tool_calls"
    assert called["message"]["tool_calls"][0]["function"]["name"] == "add"
    assert json.loads(given["message"]["content"]) == {"total": 7}


def test_an_adapter_answers_as_itself(user: User, model: LanguageModel) -> None:
    LanguageModel.objects.create(name="tuned", base=model, source="a folder", engine="fake")
    batch = run(submit(user, [chat("a", "hello", model="tuned")]))
    [found] = records(batch.output_file)
    body = found["response"]["body"]
    assert body["choices"][0]["message"]["content"] == "tuned: hello"
    assert body["model"] == "tuned"


def test_a_request_that_fails_is_in_the_error_file(
    user: User, model: LanguageModel, settings: LazySettings
) -> None:
    settings.LLM_BATCH_RETRY_SECONDS = 0.001
    model.context_length = 10
    model.save()
    lines = [chat("good", "fine"), chat("long", "word " * 50), chat("broken", "fail 2")]
    batch = run(submit(user, lines))
    assert batch.state == "completed"
    assert (batch.completed, batch.failed) == (1, 2)
    assert [one["custom_id"] for one in records(batch.output_file)] == ["good"]
    long, broken = records(batch.error_file)
    assert (long["custom_id"], long["response"]["status_code"]) == ("long", 400)
    assert long["response"]["body"]["error"]["code"] == "context_length_exceeded"
    assert (broken["custom_id"], broken["response"]["status_code"]) == ("broken", 500)


def test_nulls_in_texts_break_nothing(user: User, model: LanguageModel) -> None:
    batch = run(submit(user, [chat("null", "a\0b \ud83d\ude00")]))
    [found] = records(batch.output_file)
    text = found["response"]["body"]["choices"][0]["message"]["content"]
    assert text == "a\0b \U0001f600"


# -- resumed ----------------------------------------------------------------------------------


def leased(batch: LlmBatch) -> tuple[LlmBatch, JobContext]:
    held_batch = LlmBatch.objects.lease(batch.pk, worker="a worker")
    assert held_batch is not None
    return held_batch, JobContext(held_batch)


def give_back(batch: LlmBatch) -> None:
    """As the reaper does it once the lease has run out."""
    Job.objects.filter(pk=batch.pk).update(status=Job.Status.QUEUED)


class StopsAfter(JobContext):
    """The worker is told to stop once so many lines are answered."""

    def __init__(self, job: Job, lines: int) -> None:
        super().__init__(job)
        self.lines = lines

    def progress(self, done: int, total: int) -> None:
        super().progress(done, total)
        if done >= self.lines:
            raise WorkerStopping


def test_it_goes_on_where_it_was_and_answers_nothing_twice(
    user: User, model: LanguageModel, settings: LazySettings
) -> None:
    settings.LLM_BATCH_WINDOW = 4
    batch = submit(user, [chat(f"n{n}", f"text {n}") for n in range(20)])
    first, _context = leased(batch)
    with pytest.raises(WorkerStopping):
        batch_run.run(first, StopsAfter(first, 6))
    done = BatchLine.objects.filter(batch=batch, state=BatchLine.State.DONE)
    kept = dict(done.values_list("custom_id", "answer"))
    assert 6 <= len(kept) < 20
    give_back(batch)
    run(batch)
    assert (batch.state, batch.completed, batch.attempts) == ("completed", 20, 2)
    found = {one["custom_id"]: one["response"]["body"] for one in records(batch.output_file)}
    assert len(found) == 20
    for custom_id, answer in kept.items():
        assert found[custom_id] == json.loads(answer), "the first answer is the one that counts"
    assert Usage.objects.get().requests == 20


def test_an_answer_that_comes_late_is_dropped(user: User, model: LanguageModel) -> None:
    """Of a worker whose lease was taken over while its engine was at work."""
    batch = submit(user, [chat("a")])
    first, context = leased(batch)
    with pytest.raises(WorkerStopping):
        batch_run.run(first, StopsAfter(first, 1))
    line = BatchLine.objects.get()
    late = batch_run.Outcome(line.number, 200, {"late": True})
    batch_run._store(first, [late])
    assert json.loads(BatchLine.objects.get().answer) != {"late": True}
    first.refresh_from_db()
    assert first.completed == 1
    assert context.job == first


def test_validation_that_was_cut_off_begins_anew(user: User, model: LanguageModel) -> None:
    batch = submit(user, [chat("a"), chat("b")])
    BatchLine.objects.create(batch=batch, number=1, custom_id="a", offset=0, length=5)
    run(batch)
    assert (batch.state, batch.total) == ("completed", 2)


def test_files_are_written_once(user: User, model: LanguageModel) -> None:
    """A worker killed between the files and the job's end leaves one set of files."""
    batch = submit(user, [chat("a")])
    first, context = leased(batch)
    batch_run.run(first, context)
    give_back(batch)
    run(batch)
    assert batch.state == "completed"
    assert StoredFile.objects.filter(purpose="batch_output").count() == 1


# -- ended early ------------------------------------------------------------------------------


def test_cancel_keeps_what_is_done(
    user: User, model: LanguageModel, settings: LazySettings
) -> None:
    settings.LLM_BATCH_WINDOW = 4
    batch = submit(user, [chat(f"n{n}") for n in range(20)])
    first, _context = leased(batch)
    with pytest.raises(WorkerStopping):
        batch_run.run(first, StopsAfter(first, 5))
    give_back(batch)
    batch.refresh_from_db()
    llm_batch_cancel(batch=batch)
    assert (batch.state, batch.status) == ("cancelling", Job.Status.QUEUED)
    run(batch)
    assert (batch.state, batch.status) == ("cancelled", Job.Status.CANCELLED)
    done = len(records(batch.output_file))
    assert done == batch.completed >= 5
    left = records(batch.error_file)
    assert len(left) == 20 - done
    assert {one["error"]["code"] for one in left} == {"batch_cancelled"}
    assert left[0]["response"] is None
    with pytest.raises(NotAllowed, match="already ended"):
        llm_batch_cancel(batch=batch)
    with pytest.raises(NotAllowed):
        llm_batch_retry(batch=batch)


def test_cancel_before_anybody_took_it(user: User, model: LanguageModel) -> None:
    batch = submit(user, [chat("a")])
    llm_batch_cancel(batch=batch)
    assert (batch.state, batch.output_file_id) == ("cancelled", None)


def test_cancelled_as_any_job_it_is_settled_by_maintenance(
    user: User, model: LanguageModel, settings: LazySettings
) -> None:
    settings.LLM_BATCH_WINDOW = 2
    batch = submit(user, [chat(f"n{n}") for n in range(10)])
    first, _context = leased(batch)
    with pytest.raises(WorkerStopping):
        batch_run.run(first, StopsAfter(first, 3))
    give_back(batch)
    job_cancel(job=Job.objects.get(pk=batch.pk))
    assert batches_settle() == 1 and batches_settle() == 0
    batch.refresh_from_db()
    assert len(records(batch.output_file)) == batch.completed >= 3


def test_time_that_is_over(user: User, model: LanguageModel) -> None:
    batch = submit(user, [chat("a"), chat("b")])
    first, _context = leased(batch)
    with pytest.raises(WorkerStopping):
        batch_run.run(first, StopsAfter(first, 1))
    give_back(batch)
    done = BatchLine.objects.filter(batch=batch, state=BatchLine.State.DONE).count()
    LlmBatch.objects.filter(pk=batch.pk).update(expires_at=timezone.now())
    BatchLine.objects.filter(custom_id="b").update(state="waiting", answer="")
    LlmBatch.objects.filter(pk=batch.pk).update(completed=1)
    assert done >= 1
    run(batch)
    assert (batch.state, batch.error_code) == ("expired", "batch_expired")
    assert [one["custom_id"] for one in records(batch.output_file)] == ["a"]
    [left] = records(batch.error_file)
    assert (left["custom_id"], left["error"]["code"]) == ("b", "batch_expired")


def test_time_that_is_over_before_it_began(user: User, model: LanguageModel) -> None:
    batch = submit(user, [chat("a")])
    LlmBatch.objects.filter(pk=batch.pk).update(expires_at=timezone.now())
    run(batch)
    assert (batch.state, batch.total, batch.error_file) == ("expired", 0, None)
    assert "before the batch was begun" in batch.error


def test_a_model_that_can_not_be_loaded(user: User, model: LanguageModel) -> None:
    LanguageModel.objects.filter(pk=model.pk).update(source="damaged folder")
    batch = run(submit(user, [chat("a")]))
    assert (batch.state, batch.error_code) == ("failed", "engine_unavailable")
    assert "Copy it again" in batch.error and not batch.written
    # Once it is mended the batch goes on.
    LanguageModel.objects.filter(pk=model.pk).update(source="mended folder")
    llm_batch_retry(batch=batch)
    run(batch)
    assert batch.state == "completed"


def test_an_input_that_is_gone(user: User, model: LanguageModel) -> None:
    batch = submit(user, [chat("a")])
    StoredFile.objects.all().delete()
    assert run(batch).error_code == "file_missing"


def test_files_whose_time_is_over_go(user: User, model: LanguageModel) -> None:
    batch = submit(user, [chat("a")], output_expires_seconds=3600)
    StoredFile.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert files_expire() == 0, "the batch still reads it"
    run(batch)
    assert batch.output_file.expires_at > timezone.now() + timedelta(seconds=3000)
    assert files_expire() == 1
    assert list(StoredFile.objects.all()) == [batch.output_file]
