from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from tests.services import PostgresServer, RedisServer, Server, free_port
from tests.stack import Stack

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "not-a-secret"}


class S3Server(Server):
    """An S3 store over HTTP, with one empty bucket."""

    bucket = "documents"

    def __init__(self) -> None:
        super().__init__()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]

    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )

    def is_ready(self) -> bool:
        try:
            self.client().create_bucket(Bucket=self.bucket)
        except OSError:
            return False
        except Exception as error:
            if "Could not connect" in str(error):
                return False
            raise
        return True

    def names(self) -> list[str]:
        found = self.client().list_objects_v2(Bucket=self.bucket)
        return [item["Key"] for item in found.get("Contents", [])]


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture(scope="session")
def production(
    postgres_server: PostgresServer, redis_server: RedisServer, s3: S3Server
) -> Iterator[Stack]:
    """PostgreSQL, Redis and S3, web and a worker that share no disk."""
    with Stack(
        DATABASE_URL=postgres_server.url,
        REDIS_URL=redis_server.url,
        SECRET_KEY="one-key-for-all-machines-" * 3,
        S3_BUCKET=s3.bucket,
        MAX_UPLOAD_MB="2",
        LOG_FORMAT="json",
        S3_ENDPOINT_URL=s3.url,
        **CREDENTIALS,
    ) as stack:
        stack.web()
        stack.worker()
        stack.ready()
        yield stack
