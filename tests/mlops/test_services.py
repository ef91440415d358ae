"""The servers that other tests stand on."""

from __future__ import annotations

import psycopg
import redis

from tests.services import PostgresServer, RedisServer


def test_redis_keeps_its_data_over_a_crash_only_when_persistent() -> None:
    with RedisServer(persistent=True) as server:
        client = redis.Redis.from_url(server.url)
        client.set("key", "value")
        server.kill()
        server.start()
        assert client.get("key") == b"value"
        server.wipe()
        assert client.get("key") is None
        server.restart()
        assert client.ping()


def test_postgres_recovers_from_a_crash(postgres_server: PostgresServer) -> None:
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute("create database kept")
    postgres_server.kill()
    postgres_server.start()
    with psycopg.connect(postgres_server.url_of("kept")) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    postgres_server.wipe()
    with psycopg.connect(postgres_server.url) as connection:
        query = "select count(*) from pg_database where datname = 'kept'"
        assert connection.execute(query).fetchone() == (0,)


def test_a_closed_server_leaves_nothing(redis_server: RedisServer) -> None:
    with RedisServer() as server:
        assert server.port != redis_server.port
    assert not server.folder.exists()
    assert not server.is_ready()
