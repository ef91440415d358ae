"""Batches as tests make, run and read them."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

from llm.models import LlmBatch, StoredFile
from llm.services.batches import llm_batch_submit
from llm.services.files import stored_file_create
from llm.tasks import answer_batch
from mlops.models import User

CHAT = LlmBatch.Endpoint.CHAT
Line = dict[str, Any]


def chat(name: str, text: str = "hello there", *, model: str = "tiny", **body: Any) -> Line:
    messages = [{"role": "user", "content": text}]
    return {
        "custom_id": name,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": model, "messages": messages, **body},
    }


def stored(user: User, lines: list[Line | str], purpose: str = "batch") -> StoredFile:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    content = "\n".join(texts).encode()
    return stored_file_create(
        owner=user, file=BytesIO(content), purpose=purpose, filename="in.jsonl"
    )


def submit(user: User, lines: list[Line | str], endpoint: str = CHAT, **given: Any) -> LlmBatch:
    return llm_batch_submit(owner=user, input_file=stored(user, lines), endpoint=endpoint, **given)


def run(batch: LlmBatch) -> LlmBatch:
    answer_batch(str(batch.pk))
    batch.refresh_from_db()
    return batch


def records(file: StoredFile | None) -> list[dict[str, Any]]:
    assert file is not None
    with file.file.storage.open(file.file.name) as opened:
        return [json.loads(line) for line in opened]
