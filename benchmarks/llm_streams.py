"""What open streams cost the web process: memory, CPU time a chunk, and the time of other requests.

    python -m benchmarks.llm_streams --streams 200 --relay redis

Starts web and worker with an engine that makes words at a set pace and computes nothing, opens
the streams, and looks at the web process from outside. What a request costs is measured one at a
time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time
from contextlib import ExitStack
from pathlib import Path

import httpx

from tests.services import PostgresServer, RedisServer
from tests.stack import Stack

ENGINE = "tests.fakes.FakeLanguageEngine"
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--relay", choices=("redis", "database"), default="redis")
    parser.add_argument("--pace", type=float, default=0.1, help="seconds between two words")
    parser.add_argument("--words", type=int, default=200, help="of each stream")
    parser.add_argument("--single", type=int, default=100, help="requests one after the other")
    options = parser.parse_args()
    engines = {
        "paced": {"BACKEND": ENGINE, "OPTIONS": {"delay": options.pace}},
        "quick": {"BACKEND": ENGINE},
    }
    env = {
        "LLM_ENGINES": json.dumps(engines),
        "ENGINES_PRELOAD": "",
        "READY_QUEUES": "llm",
        # As in production: the tests' own are for losing workers in seconds.
        "JOB_LEASE_SECONDS": "30",
        "MAINTENANCE_SECONDS": "5",
    }
    with ExitStack() as servers:
        if options.relay == "redis":
            env["REDIS_URL"] = servers.enter_context(RedisServer()).url
            env["DATABASE_URL"] = servers.enter_context(PostgresServer()).url
        stack = servers.enter_context(Stack(**env))
        # A thread a stream: nothing waits in the queue.
        worker = ["-Q", "llm", "-P", "threads", "-c", str(options.streams)]
        stack.web()
        started = stack.start("llm", "-m", "celery", "-A", "mlops", "worker", *worker)
        stack.ready()
        for name in engines:
            body = {"name": name, "engine": name, "source": "x"}
            stack.client.post("/api/v1/llm/models/", json=body).raise_for_status()
        web = children(stack._processes[0].pid)[0]
        asyncio.run(measure(stack, web, started.pid, options))


async def measure(stack: Stack, web: int, worker: int, options: argparse.Namespace) -> None:
    # The server closes idle connections, and may do so in the moment of a request.
    limits = httpx.Limits(max_connections=options.streams + 10, keepalive_expiry=1)
    async with httpx.AsyncClient(
        base_url=str(stack.client.base_url),
        headers={"Authorization": stack.client.headers["Authorization"]},
        limits=limits,
        timeout=120,
    ) as client:
        await one_at_a_time(client, web, worker, options.single)
        before, alone = memory(web), await others(client, 40)
        spent, beginning = cpu(web), time.monotonic()
        running = [
            asyncio.create_task(stream(client, "paced", options.words))
            for _ in range(options.streams)
        ]
        await asyncio.sleep(options.words * options.pace / 2)
        during, beside = memory(web), await others(client, 40)
        chunks = sum(await asyncio.gather(*running))
        spent, lasted = cpu(web) - spent, time.monotonic() - beginning
    print(f"{options.streams} streams over {options.relay}:")
    print(f"  memory of the web process {before:.1f} -> {during:.1f} MB: {during - before:.1f} MB")
    print(f"  {chunks} chunks in {lasted:.1f} s, {spent / chunks * 1e6:.0f} us of CPU each")
    print(f"  GET /v1/models, median: alone {alone:.1f} ms, beside the streams {beside:.1f} ms")


async def one_at_a_time(client: httpx.AsyncClient, web: int, worker: int, count: int) -> None:
    for _warm in range(10):
        await stream(client, "quick", 3)
    before, times = (cpu(web), cpu(worker)), []
    for _request in range(count):
        began = time.perf_counter()
        await stream(client, "quick", 1)
        times.append(time.perf_counter() - began)
    spent = [
        (now - then) / count * 1000
        for now, then in zip((cpu(web), cpu(worker)), before, strict=True)
    ]
    print(f"one request: {statistics.median(times) * 1000:.1f} ms (median, to its end)")
    print(f"  CPU: web {spent[0]:.1f} ms, worker {spent[1]:.1f} ms")


async def stream(client: httpx.AsyncClient, model: str, words: int) -> int:
    """The number of chunks that came."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": f"count {words}"}],
        "stream": True,
    }
    chunks = 0
    async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            chunks += line.startswith("data: {")
    return chunks


async def others(client: httpx.AsyncClient, count: int) -> float:
    """Milliseconds of another request, median."""
    times = []
    for _request in range(count):
        began = time.perf_counter()
        (await client.get("/v1/models")).raise_for_status()
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def memory(pid: int) -> float:
    """Private and shared memory of one process, in MB, shared parts by their share."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    [kilobytes] = [int(line.split()[1]) for line in lines if line.startswith("Pss:")]
    return kilobytes / 1024


def cpu(pid: int) -> float:
    """Seconds of CPU time so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


if __name__ == "__main__":
    main()
