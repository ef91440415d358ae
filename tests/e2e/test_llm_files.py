"""Files and batches with the real `openai` client, on a running site, worker and S3."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.e2e.conftest import CREDENTIALS, S3Server
from tests.services import wait_for
from tests.stack import Stack

pytestmark = pytest.mark.e2e

ENGINES = {"fake": {"BACKEND": "tests.fakes.FakeLanguageEngine"}}


@pytest.fixture(scope="module")
def stack(s3: S3Server) -> Iterator[Stack]:
    """Embedded, but for the files: they are in a bucket, on no disk."""
    with Stack(
        LLM_ENGINES=json.dumps(ENGINES),
        MAX_UPLOAD_MB="1",
        FILE_MAX_MB="3",
        S3_BUCKET=s3.bucket,
        S3_ENDPOINT_URL=s3.url,
        **CREDENTIALS,
    ) as stack:
        stack.web()
        stack.llm_worker()
        model = {"name": "echo", "engine": "fake", "source": "echo"}
        answer = stack.client.post("/api/v1/llm/models/", json=model)
        assert answer.status_code == 201, answer.text
        yield stack


@pytest.fixture
def client(stack: Stack) -> openai.OpenAI:
    key = stack.client.headers["Authorization"].removeprefix("Bearer ")
    url = f"http://127.0.0.1:{stack.port}/v1"
    return openai.OpenAI(base_url=url, api_key=key, max_retries=0)


def lines(count: int, **body: Any) -> bytes:
    return "".join(
        json.dumps(
            {
                "custom_id": f"request-{n}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {
                    "model": "echo",
                    "messages": [{"role": "user", "content": f"words of {n}"}],
                    **body,
                },
            }
        )
        + "\n"
        for n in range(count)
    ).encode()


def ended(client: openai.OpenAI, stack: Stack, batch: Any) -> Any:
    final = ("completed", "failed", "expired", "cancelled")
    assert wait_for(lambda: client.batches.retrieve(batch.id).status in final, 60), stack.logs()
    return client.batches.retrieve(batch.id)


def test_files(client: openai.OpenAI, s3: S3Server, stack: Stack) -> None:
    content = b"x" * (2 * 1024 * 1024)
    file = client.files.create(
        file=("../näme.bin", content),
        purpose="user_data",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert (file.object, file.bytes, file.purpose) == ("file", len(content), "user_data")
    assert file.status == "processed" and file.expires_at - file.created_at <= 3600
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).read() == content
    with client.files.with_streaming_response.content(file.id) as answer:
        assert sum(map(len, answer.iter_bytes())) == len(content)
    part = client.files.with_raw_response.content(file.id, extra_headers={"Range": "bytes=-5"})
    assert part.status_code == 206 and part.content == b"xxxxx"
    assert any(name.endswith(file.id) for name in s3.names())
    assert not [path for path in stack.data_dir.rglob(file.id)]

    others = [client.files.create(file=b"{}\n", purpose="evals") for _ in range(3)]
    listed = client.files.list(purpose="evals", limit=2, order="asc")
    assert listed.has_more and [one.id for one in listed] == [one.id for one in others]

    gone = client.files.delete(file.id)
    assert (gone.deleted, gone.object, gone.id) == (True, "file", file.id)
    assert not any(name.endswith(file.id) for name in s3.names())
    with pytest.raises(openai.NotFoundError) as caught:
        client.files.retrieve(file.id)
    assert caught.value.code == "not_found"


def test_a_file_over_the_limit(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.files.create(file=b"x" * (4 * 1024 * 1024), purpose="batch")
    assert caught.value.status_code == 413
    assert "FILE_MAX_MB" in caught.value.message


def test_a_batch(client: openai.OpenAI, stack: Stack) -> None:
    file = client.files.create(file=("in.jsonl", lines(200)), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"night": "monday"},
    )
    assert batch.object == "batch" and batch.status in ("validating", "in_progress")
    done = ended(client, stack, batch)
    assert (done.status, done.errors) == ("completed", None)
    counts = done.request_counts
    assert (counts.total, counts.completed, counts.failed) == (200, 200, 0)
    assert done.usage.total_tokens == 200 * 6 and done.model == "echo"
    assert done.created_at <= done.in_progress_at <= done.finalizing_at <= done.completed_at
    assert done.metadata == {"night": "monday"} and done.error_file_id is None
    answers = [json.loads(line) for line in client.files.content(done.output_file_id).iter_lines()]
    assert [one["custom_id"] for one in answers] == [f"request-{n}" for n in range(200)]
    for number, one in enumerate(answers):
        answer = openai.types.chat.ChatCompletion.model_validate(one["response"]["body"])
        assert answer.choices[0].message.content == f"words of {number}"
    assert client.files.retrieve(done.output_file_id).purpose == "batch_output"
    assert client.batches.list(limit=1).data[0].id == batch.id


def test_a_batch_with_lines_at_fault(client: openai.OpenAI, stack: Stack) -> None:
    content = lines(2) + b"{broken\n" + lines(1, temperature="hot")
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    done = ended(client, stack, batch)
    assert done.status == "failed" and done.output_file_id is None
    first, second = done.errors.data
    assert (first.line, first.code) == (3, "invalid_json_line")
    assert (second.line, second.code) == (4, "duplicate_custom_id")


def test_cancel(client: openai.OpenAI, stack: Stack) -> None:
    slow = {"name": "slow", "engine": "fake", "source": "slow", "options": {"delay": 0.05}}
    assert stack.client.post("/api/v1/llm/models/", json=slow).status_code == 201
    minutes = [{"role": "user", "content": "count 5000"}]
    content = lines(100, model="slow", messages=minutes)
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    assert wait_for(lambda: client.batches.retrieve(batch.id).status == "in_progress", 60)
    assert client.batches.cancel(batch.id).status == "cancelling"
    done = ended(client, stack, batch)
    assert done.status == "cancelled" and done.cancelling_at <= done.cancelled_at
    left = [json.loads(line) for line in client.files.content(done.error_file_id).iter_lines()]
    assert len(left) == 100 and left[0]["error"]["code"] == "batch_cancelled"
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(batch.id)
