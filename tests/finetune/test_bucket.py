"""Datasets in a bucket: nothing of them is on this machine's disk between two steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from finetune import selectors, services
from finetune.tasks import import_dataset
from finetune.version_files import version_rows
from mlops.models import User
from tests.finetune.conftest import submitted
from tests.finetune.made import chats
from tests.services import free_port

pytestmark = pytest.mark.django_db


@pytest.fixture
def bucket(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket as the default storage."""
    import boto3

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port())
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    found = boto3.resource("s3", endpoint_url=url, region_name="us-east-1").create_bucket(
        Bucket="data"
    )
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {
            "BACKEND": "storages.backends.s3.S3Storage",
            "OPTIONS": {
                "bucket_name": "data",
                "endpoint_url": url,
                "region_name": "us-east-1",
                "addressing_style": "path",
                "file_overwrite": False,
            },
        },
    }
    yield found
    server.stop()


def test_import_rows_search_changes_and_delete(
    bucket: Any,
    owner: User,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Callable[..., AbstractContextManager[Any]],
) -> None:
    # Several shards, so that pages lie in different objects.
    monkeypatch.setattr("finetune.content.writer.SHARD_BYTES", 4000)
    versions = []
    for rows in (chats(900), chats(905)):
        job = submitted(owner, rows)
        assert bucket.Object(job.file.name).content_length > 0
        assert import_dataset(str(job.pk))["status"] == "succeeded"
        job.refresh_from_db()
        versions.append(job.version)
    old, new = versions
    names = [item.key for item in bucket.objects.all()]
    assert not any("imports" in name for name in names)
    assert sum(f"{new.sha256}/rows-" in name for name in names) > 1
    page = selectors.rows_page(new, split="", page=18, size=50)
    assert [row.row for row in page.rows] == chats(50, 850)
    found = selectors.rows_search(new, "stop 904?", split="", start=0, size=5)
    assert [row.number for row in found.rows] == [904]
    assert selectors.versions_diff(old, new)["added"] == 5
    read = [str(row) for split in new.split_counts for row in version_rows(new, split)]
    assert sorted(read) == sorted(map(str, chats(905)))
    with django_capture_on_commit_callbacks(execute=True):
        services.dataset_delete(dataset=new.dataset)
    assert list(bucket.objects.all()) == []
