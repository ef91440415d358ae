"""Ways to have a model write, all given the same prompts: servers by HTTP, and a plain loop."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.memory import memory_mb
from tests.services import PostgresServer, RedisServer, free_port, wait_for
from tests.stack import Stack, end

ROOT = Path(__file__).resolve().parent.parent.parent
MODEL = "bench"
START_SECONDS = 120

Messages = list[dict[str, str]]


@dataclass(slots=True)
class Run:
    """One go over some prompts: seconds in all, and to each first token; gaps between tokens."""

    seconds: float
    tokens: int
    first: list[float]
    gaps: list[float]
    texts: list[str]

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds


class Side:
    """One contender. `pids`: its processes, for their memory."""

    name: str
    pids: list[int]

    def run(self, prompts: list[Messages], tokens: int, clients: int) -> Run:
        raise NotImplementedError

    def warm_up(self, prompts: list[Messages], tokens: int, clients: int) -> float:
        """A request a client; tokens/s."""
        return self.run(prompts[:clients], tokens, clients).rate

    def memory(self) -> float:
        """MB."""
        return sum(map(memory_mb, self.pids))

    def rest(self) -> None:
        """While others run: what polls must not take their time."""
        for pid in self.pids:
            os.killpg(pid, signal.SIGSTOP)

    def wake(self) -> None:
        for pid in self.pids:
            os.killpg(pid, signal.SIGCONT)

    def close(self) -> None:
        raise NotImplementedError


class Server(Side):
    """A process that answers /v1/chat/completions."""

    def __init__(self, name: str, command: list[str], port: int, log: Path) -> None:
        self.name, self.url, self.headers = name, f"http://127.0.0.1:{port}", {}
        self.body: dict[str, Any] = {}
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, "HF_HUB_OFFLINE": "1"},
                start_new_session=True,
            )
        self.pids = [self._process.pid]
        if not wait_for(self._is_up, START_SECONDS):
            self.close()
            raise SystemExit(f"{name} did not start:\n{log.read_text()[-3000:]}")

    def _is_up(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=2) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def run(self, prompts: list[Messages], tokens: int, clients: int) -> Run:
        bodies = [
            {
                "model": MODEL,
                "messages": messages,
                "max_tokens": tokens,
                "temperature": 0,
                "stream": True,
                "stream_options": {"include_usage": True},
                **self.body,
            }
            for messages in prompts
        ]
        return asyncio.run(_ask_all(self.url, self.headers, bodies, clients))

    def close(self) -> None:
        self.wake()
        end(self._process)


class Quicker(Side):
    """One contender in several dtypes: on some machines one is quicker for a single request, and
    another for many. Each number of clients gets the one that was quicker with so many at first.
    """

    def __init__(self, name: str, variants: dict[str, Side]) -> None:
        self.name, self.variants = name, variants
        self.chosen: dict[int, str] = {}
        self._rates: dict[tuple[int, str], float] = {}

    @property
    def pids(self) -> list[int]:
        return [pid for side in self.variants.values() for pid in side.pids]

    def run(self, prompts: list[Messages], tokens: int, clients: int) -> Run:
        return self.variants[self.chosen[clients]].run(prompts, tokens, clients)

    def warm_up(self, prompts: list[Messages], tokens: int, clients: int) -> float:
        """Tries each, with a request a client; the best rate."""
        rates = {}
        for name, side in self.variants.items():
            side.warm_up(prompts, 4, clients)
            rates[name] = side.run(prompts[:clients], tokens // 4, clients).rate
        self.chosen[clients] = max(rates, key=lambda name: rates[name])
        return max(rates.values())

    def memory(self) -> float:
        return max(side.memory() for side in self.variants.values())

    def close(self) -> None:
        for side in self.variants.values():
            side.close()


def transformers_serve(folder: Path, log: Path, *, dtype: str) -> Server:
    """The library's own server, with continuous batching."""
    port = free_port()
    program = "from transformers.cli.transformers import main; main()"
    server = Server(
        f"transformers serve, {dtype}",
        [
            *(sys.executable, "-c", f"{IMPORT_TORCH}; {program}"),
            *("serve", str(folder), "--continuous-batching", "--port", str(port)),
            *("--host", "127.0.0.1", "--cb-block-size", "32", "--cb-num-blocks", "256"),
            *("--cb-max-batch-tokens", "1024", "--log-level", "error", "--dtype", dtype),
        ],
        port,
        log,
    )
    server.body = {"model": str(folder)}
    return server


# Beside a CPU build of torch its ops for images must be looked for first.
IMPORT_TORCH = "from ocr.engines.torch_library import import_torch; import_torch()"


def serve_llm(folder: Path, log: Path, *, dtype: str = "auto") -> Server:
    port = free_port()
    server = Server(
        "ours, serve_llm",
        [
            *(sys.executable, "manage.py", "serve_llm", str(folder), "--name", MODEL),
            *("--port", str(port), "--dtype", dtype),
        ],
        port,
        log,
    )
    server.body = {"ignore_eos": True}
    return server


class Platform(Server):
    """gunicorn, PostgreSQL, Redis and one worker of the queue `llm`, as they are deployed."""

    def __init__(self, folder: Path) -> None:
        self.name = "ours, the platform"
        self._postgres, self._redis = PostgresServer(), RedisServer()
        self._postgres.start()
        self._redis.start()
        self._stack = Stack(
            DATABASE_URL=self._postgres.url,
            REDIS_URL=self._redis.url,
            ENGINES_PRELOAD="",
            READY_QUEUES="llm",
            JOB_LEASE_SECONDS="30",
            MAINTENANCE_SECONDS="5",
            LOG_LEVEL="WARNING",
            DATABASE_POOL_SIZE="20",
        )
        self._stack.__enter__()
        self._stack.manage(
            *("shell", "--verbosity", "0", "-c"),
            "from llm.models import LanguageModel; "
            f"LanguageModel.objects.create(name={MODEL!r}, source={str(folder)!r}, warm=True)",
        )
        web = self._stack.web()
        worker = self._stack.start(
            "worker",
            *("-m", "celery", "-A", "mlops", "worker", "-Q", "llm,default", "-P", "threads"),
            *("-c", "40", "-n", "llm@%h"),
        )
        self.pids = [web.pid, worker.pid]
        self._stack.ready(START_SECONDS)
        self.url = str(self._stack.client.base_url).rstrip("/")
        self.headers = {"Authorization": self._stack.client.headers["Authorization"]}
        self.body = {"ignore_eos": True}

    def rest(self) -> None:
        """It waits for messages without polling; stopped, it would be taken for dead."""

    def wake(self) -> None:
        """See `rest`."""

    def logs(self) -> str:
        return self._stack.logs()

    def close(self) -> None:
        self._stack.__exit__()
        self._redis.close()
        self._postgres.close()


class Loop(Side):
    """`generate`, one prompt after the other, in a process of its own: no server, no batch."""

    def __init__(
        self, folder: Path, *, dtype: str = "auto", name: str = "plain generate loop"
    ) -> None:
        self.name = name
        script = Path(__file__).with_name("generate_loop.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script), str(folder), dtype],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.pids = [self._process.pid]
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def run(self, prompts: list[Messages], tokens: int, clients: int) -> Run:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"prompts": prompts, "tokens": tokens}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return Run(tokens=tokens * len(prompts), **answer)

    def close(self) -> None:
        self.wake()
        end(self._process)


async def _ask_all(
    url: str, headers: dict[str, str], bodies: list[dict[str, Any]], clients: int
) -> Run:
    """Each client sends its share, one request after the other, all clients at once."""
    whole = Run(0.0, 0, [], [], [""] * len(bodies))
    began = time.perf_counter()

    async def client(first: int) -> None:
        for place in range(first, len(bodies), clients):
            await _ask(url, headers, bodies[place], whole, place)

    await asyncio.gather(*(client(first) for first in range(min(clients, len(bodies)))))
    whole.seconds = time.perf_counter() - began
    return whole


async def _ask(
    url: str, headers: dict[str, str], body: dict[str, Any], whole: Run, place: int
) -> None:
    """By hand: a client's library would take processor time that the servers need.

    The lines are looked at once the answer is complete.
    """
    parts, content = urlsplit(url), json.dumps(body).encode()
    lines: list[tuple[float, bytes]] = []
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = {
        "Host": parts.netloc,
        "Content-Type": "application/json",
        "Content-Length": str(len(content)),
        "Connection": "close",
        **headers,
    }
    text = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    writer.write(f"POST /v1/chat/completions HTTP/1.1\r\n{text}\r\n".encode() + content)
    while line := await reader.readline():
        if line.startswith((b"data: {", b"HTTP/")):
            lines.append((time.perf_counter(), line))
    writer.close()
    if b" 200 " not in lines[0][1]:
        raise SystemExit(f"{url}: {lines}")
    times, tokens = [], 0
    for moment, line in lines[1:]:
        chunk = json.loads(line[6:])
        if "error" in chunk:
            raise SystemExit(f"{url}: {chunk}")
        if chunk["choices"] and (piece := chunk["choices"][0]["delta"].get("content")):
            times.append(moment)
            whole.texts[place] += piece
        if chunk.get("usage"):
            tokens = chunk["usage"]["completion_tokens"]
    whole.tokens += tokens
    # Of a few random tokens nothing may be seen: halves of characters.
    whole.first += [times[0] - started] if times else []
    whole.gaps += [after - before for before, after in itertools.pairwise(times)]
