"""Stored files: the services behind OpenAI's Files API, and the API to the field."""

from __future__ import annotations

from datetime import timedelta
from io import BytesIO
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.files.storage import default_storage
from django.test import AsyncClient
from django.utils import timezone
from rest_framework.test import APIClient

from llm.api.file_content import byte_range
from llm.files import clean_name, local_copy
from llm.models import LlmBatch, StoredFile
from llm.services.files import stored_file_create, stored_file_delete
from mlops.exceptions import ApplicationError, JobFailed, NotAllowed
from mlops.models import ApiKey, Job, User
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db

CONTENT = b'{"a": 1}\n{"a": 2}\n'


@pytest.fixture
def user() -> User:
    return UserFactory()


def client_of(user: User) -> APIClient:
    _key, token = ApiKey.objects.create(user=user)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


@pytest.fixture
def client(user: User) -> APIClient:
    return client_of(user)


def upload(client: APIClient, content: bytes = CONTENT, **fields: Any) -> Any:
    file = BytesIO(content)
    file.name = fields.pop("name", "data.jsonl")
    return client.post("/v1/files", {"file": file, "purpose": "batch", **fields})


def body_of(user: User, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Through the async handler, as the site answers: a download is read piece by piece."""
    _key, token = ApiKey.objects.create(user=user)

    async def ask() -> tuple[int, dict[str, str], bytes]:
        sent = {"Authorization": f"Bearer {token}", **headers}
        answer = await AsyncClient().get(path, headers=sent)
        if not answer.streaming:
            return answer.status_code, dict(answer.headers), answer.content
        content = b"".join([piece async for piece in answer.streaming_content])
        return answer.status_code, dict(answer.headers), content

    return async_to_sync(ask)()


def test_upload_gives_the_file_object_to_the_field(client: APIClient, user: User) -> None:
    answer = upload(client)
    assert answer.status_code == 200, answer.content
    stored = StoredFile.objects.get()
    assert answer.json() == {
        "id": stored.pk,
        "object": "file",
        "bytes": len(CONTENT),
        "created_at": int(stored.created_at.timestamp()),
        "expires_at": None,
        "filename": "data.jsonl",
        "purpose": "batch",
        "status": "processed",
        "status_details": None,
    }
    assert stored.pk.startswith("file-") and stored.owner == user
    assert stored.file.name == f"files/{stored.pk[5:7]}/{stored.pk}"
    assert client.get(f"/v1/files/{stored.pk}").json() == answer.json()


@pytest.mark.parametrize("purpose", ["fine-tune", "batch", "vision", "user_data", "evals"])
def test_purposes_that_may_be_uploaded(client: APIClient, purpose: str) -> None:
    assert upload(client, purpose=purpose).json()["purpose"] == purpose


@pytest.mark.parametrize("purpose", ["batch_output", "fine-tune-results", "nonsense", ""])
def test_other_purposes_are_refused(client: APIClient, purpose: str) -> None:
    answer = upload(client, purpose=purpose)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "purpose"
    assert "fine-tune" in answer.json()["error"]["message"]
    assert not StoredFile.objects.exists()


def test_a_file_that_is_missing_empty_or_too_large(client: APIClient, settings) -> None:
    missing = client.post("/v1/files", {"purpose": "batch"}, format="multipart")
    assert (missing.status_code, missing.json()["error"]["param"]) == (400, "file")
    empty = upload(client, b"")
    assert (empty.status_code, empty.json()["error"]["code"]) == (400, "empty_file")
    settings.FILE_MAX_BYTES = 10
    large = upload(client)
    assert (large.status_code, large.json()["error"]["code"]) == (413, "file_too_large")
    assert not StoredFile.objects.exists()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\data\\x.jsonl", "x.jsonl"),
        ("a\r\nSet-Cookie: b", "aSet-Cookie: b"),
        ("\0", "file"),
        ("한국어.jsonl", "한국어.jsonl"),
        ("x" * 300 + ".jsonl", "x" * 249 + ".jsonl"),
    ],
)
def test_a_name_is_only_shown(user: User, given: str, kept: str) -> None:
    assert clean_name(given) == kept
    file = stored_file_create(
        owner=user, file=BytesIO(b"x"), purpose=StoredFile.Purpose.BATCH, filename=given
    )
    assert file.filename == kept
    assert file.file.name.split("/")[-1] == file.pk


def test_expiry(client: APIClient, user: User) -> None:
    answer = upload(
        client, **{"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    )
    body = answer.json()
    assert body["expires_at"] - body["created_at"] in (3599, 3600)
    StoredFile.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert client.get(f"/v1/files/{body['id']}").status_code == 404
    assert client.get("/v1/files").json()["data"] == []
    for seconds in ("10", "x", "9999999"):
        refused = upload(
            client, **{"expires_after[anchor]": "created_at", "expires_after[seconds]": seconds}
        )
        assert refused.json()["error"]["param"] == "expires_after"


def test_list_by_pages_order_and_purpose(client: APIClient) -> None:
    ids = [upload(client).json()["id"] for _ in range(3)]
    ids.append(upload(client, purpose="evals").json()["id"])
    whole = client.get("/v1/files").json()
    assert whole["object"] == "list" and not whole["has_more"]
    assert [one["id"] for one in whole["data"]] == ids[::-1]
    first = client.get("/v1/files", {"limit": 3}).json()
    assert first["has_more"] and first["last_id"] == ids[1]
    second = client.get("/v1/files", {"limit": 3, "after": first["last_id"]}).json()
    assert [one["id"] for one in second["data"]] == [ids[0]] and not second["has_more"]
    upwards = client.get("/v1/files", {"order": "asc", "after": ids[0]}).json()
    assert [one["id"] for one in upwards["data"]] == ids[1:]
    evals = client.get("/v1/files", {"purpose": "evals"}).json()
    assert [one["id"] for one in evals["data"]] == [ids[3]]
    for wrong in ({"limit": 0}, {"limit": "x"}, {"order": "up"}):
        assert client.get("/v1/files", wrong).status_code == 400
    assert client.get("/v1/files", {"after": "file-none"}).status_code == 404


def test_content_whole_and_in_ranges(user: User) -> None:
    content = bytes(range(256)) * 3000
    file = stored_file_create(owner=user, file=BytesIO(content), purpose="vision", filename="ä.png")
    path = f"/v1/files/{file.pk}/content"
    status, headers, body = body_of(user, path)
    assert (status, body) == (200, content)
    assert headers["Content-Length"] == str(len(content))
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["Content-Disposition"].startswith("attachment;")
    # As the real client asks.
    assert body_of(user, path, Accept="application/binary")[0] == 200
    status, headers, body = body_of(user, path, Range="bytes=100-399")
    assert (status, body) == (206, content[100:400])
    assert headers["Content-Range"] == f"bytes 100-399/{len(content)}"
    status, headers, body = body_of(user, path, Range=f"bytes={len(content)}-")
    assert (status, body) == (416, b"")
    assert headers["Content-Range"] == f"bytes */{len(content)}"


@pytest.mark.parametrize(
    ("header", "span"),
    [
        ("", (0, 10)),
        ("bytes=0-0", (0, 1)),
        ("bytes=4-", (4, 10)),
        ("bytes=4-99", (4, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-99", (0, 10)),
        ("bytes=-0", None),
        ("bytes=10-", None),
        ("bytes=5-2", (0, 10)),
        ("bytes=1-2,4-5", (0, 10)),
        ("lines=1-2", (0, 10)),
        ("bytes=-", (0, 10)),
    ],
)
def test_byte_range(header: str, span: tuple[int, int] | None) -> None:
    assert byte_range(header, 10) == span


def test_delete_takes_the_file_along(client: APIClient, django_capture_on_commit_callbacks) -> None:
    pk = upload(client).json()["id"]
    name = StoredFile.objects.get().file.name
    assert default_storage.exists(name)
    with django_capture_on_commit_callbacks(execute=True):
        answer = client.delete(f"/v1/files/{pk}")
    assert answer.json() == {"id": pk, "object": "file", "deleted": True}
    assert not default_storage.exists(name)
    assert client.get(f"/v1/files/{pk}").status_code == 404


def test_files_are_their_owners_alone(client: APIClient) -> None:
    pk = upload(client).json()["id"]
    other = client_of(UserFactory())
    for path in (f"/v1/files/{pk}", f"/v1/files/{pk}/content"):
        answer = other.get(path)
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "not_found"
    assert other.delete(f"/v1/files/{pk}").status_code == 404
    assert other.get("/v1/files").json()["data"] == []
    assert other.get("/v1/files", {"after": pk}).status_code == 404
    operator = client_of(UserFactory(role="operator"))
    assert operator.get(f"/v1/files/{pk}").status_code == 200
    assert APIClient().get("/v1/files").status_code == 401


def test_a_file_that_a_batch_reads_stays(client: APIClient, user: User) -> None:
    pk = upload(client).json()["id"]
    batch = LlmBatch.objects.create(
        kind=LlmBatch.KIND,
        queue="llm",
        owner=user,
        endpoint=LlmBatch.Endpoint.CHAT,
        input_file_id=pk,
        expires_at=timezone.now(),
    )
    answer = client.delete(f"/v1/files/{pk}")
    assert (answer.status_code, answer.headers["x-should-retry"]) == (409, "false")
    with pytest.raises(NotAllowed, match="batch_"):
        stored_file_delete(file=StoredFile.objects.get())
    Job.objects.update(status=Job.Status.SUCCEEDED)
    assert client.delete(f"/v1/files/{pk}").status_code == 200
    # The batch still says which file it was.
    batch.refresh_from_db()
    assert batch.input_file_id == pk


def test_a_file_that_is_gone_from_the_storage(user: User) -> None:
    file = stored_file_create(owner=user, file=BytesIO(b"x"), purpose="batch")
    with local_copy(file) as path:
        assert path.read_bytes() == b"x"
    default_storage.delete(file.file.name)
    with pytest.raises(JobFailed, match="Upload it again"), local_copy(file):
        pass
    status, _headers, body = body_of(user, f"/v1/files/{file.pk}/content")
    assert status == 404 and b"file_missing" in body


def test_a_reader_that_gives_no_name(user: User) -> None:
    file = stored_file_create(owner=user, file=BytesIO(b"abc"), purpose="fine-tune")
    assert (file.filename, file.bytes) == ("file", 3)
    assert file.sha256.startswith("ba7816bf")
    with pytest.raises(ApplicationError, match="empty"):
        stored_file_create(owner=user, file=BytesIO(b""), purpose="fine-tune")
