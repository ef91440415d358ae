"""Real servers for tests: PostgreSQL, Redis and Cerbos, private to the run and gone with it.

Each is a context manager with a `url`. `stop()` is an orderly end, `kill()` a crash; `start()`
brings the server back with what it had kept, at the same URL.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Self

START_SECONDS = 20
ROOT = Path(__file__).resolve().parent.parent


class MissingProgram(RuntimeError):
    """A program that tests need isn't installed; the message says how to install it."""

    def __init__(self, program: str, package: str) -> None:
        super().__init__(f"{program} not found. Install it: apt-get install -y {package}")


class Server:
    """A server process with a folder of its own, which goes when the server is closed."""

    stop_signal = signal.SIGTERM
    kill_signal = signal.SIGKILL
    start_seconds = START_SECONDS

    def __init__(self) -> None:
        # A socket's path may hold about a hundred characters: hence no deeper than this.
        self.folder = Path(tempfile.mkdtemp(prefix="srv-"))
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def is_ready(self) -> bool:
        raise NotImplementedError

    def start(self) -> None:
        """Starts the server and waits until it answers. Raises RuntimeError with its log."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.launcher(), *self.command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        if not wait_for(
            lambda: self.process.poll() is not None or self.is_ready(), self.start_seconds
        ):
            self.kill()
            raise RuntimeError(f"no answer after {self.start_seconds} s:\n{self.log()}")
        if self.process.poll() is not None:
            raise RuntimeError(f"exited with {self.process.returncode}:\n{self.log()}")

    def launcher(self) -> list[str]:
        """Ends the server even if the tests' own process is killed; where there is setpriv."""
        setpriv = shutil.which("setpriv")
        return [setpriv, "--pdeathsig", "KILL"] if setpriv else []

    def stop(self) -> None:
        self._end(self.stop_signal)

    def kill(self) -> None:
        self._end(self.kill_signal)

    def restart(self) -> None:
        self.stop()
        self.start()

    def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(START_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-4000:]

    def close(self) -> None:
        """Ends the server and removes what it kept."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RedisServer(Server):
    """Redis on a free port. `persistent` keeps every write on disk over `stop()` and `kill()`."""

    def __init__(self, *, persistent: bool = False, port: int | None = None) -> None:
        self.program = shutil.which("redis-server")
        if self.program is None:
            raise MissingProgram("redis-server", "redis-server")
        super().__init__()
        self.persistent = persistent
        self.port = port or free_port()
        self.data = self.folder / "data"
        self.data.mkdir()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        append = ["--appendonly", "yes", "--appendfsync", "always"] if self.persistent else []
        return [
            *(self.program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""),
            *("--dir", str(self.data), "--maxmemory-policy", "noeviction", *append),
        ]

    def is_ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def wipe(self) -> None:
        """Forgets everything, as a server with a lost volume does; it runs on if it ran."""
        running = self.process is not None
        self.kill()
        shutil.rmtree(self.data)
        self.data.mkdir()
        if running:
            self.start()


class PostgresServer(Server):
    """PostgreSQL on a Unix socket, superuser `postgres` without a password, no fsync.

    `url` is understood by Django (django-environ), libpq and SQLAlchemy alike.
    """

    stop_signal = signal.SIGINT  # "fast": ends sessions, then closes the files
    kill_signal = signal.SIGQUIT  # "immediate": the next start recovers from the log

    def __init__(self) -> None:
        self.programs = find_postgres()
        super().__init__()
        self.data = self.folder / "data"
        self._as_postgres: list[str] = []
        if os.geteuid() == 0:
            # PostgreSQL refuses to run as root.
            try:
                shutil.chown(self.folder, "postgres", "postgres")
            except LookupError as error:
                raise MissingProgram("the user postgres", "postgresql") from error
            self._as_postgres = ["--reuid=postgres", "--regid=postgres", "--init-groups"]
        initdb = [
            *(str(self.programs / "initdb"), "-D", str(self.data), "-U", "postgres"),
            *("-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"),
        ]
        subprocess.run(
            [*self.launcher(), *initdb], check=True, stdout=subprocess.DEVNULL, cwd=self.folder
        )

    def launcher(self) -> list[str]:
        # In one call: a change of user forgets the signal that was asked for before it.
        return [*super().launcher(), *self._as_postgres]

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def command(self) -> list[str]:
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "max_connections": "200",
        }
        settings = [part for item in options.items() for part in ("-c", "=".join(item))]
        return [str(self.programs / "postgres"), "-D", str(self.data), *settings]

    def is_ready(self) -> bool:
        ready = [str(self.programs / "pg_isready"), "-q", "-h", str(self.folder), "-U", "postgres"]
        return subprocess.run(ready, check=False).returncode == 0

    def wipe(self) -> None:
        """Forgets every database but the empty one named postgres."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            rows = connection.execute("select datname from pg_database where not datistemplate")
            for (name,) in rows.fetchall():
                if name != "postgres":
                    connection.execute(f'drop database "{name}" with (force)')


class CerbosServer(Server):
    """Cerbos with a copy of the platform's policies in `policies`, which a test may change."""

    def __init__(self) -> None:
        own = ROOT / ".venv/bin/cerbos"
        self.program = str(own) if own.exists() else shutil.which("cerbos")
        if self.program is None:
            raise MissingProgram("cerbos", "npm, then: scripts/setup.sh test")
        super().__init__()
        self.port = free_port()
        self.policies = self.folder / "policies"
        self.restore()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def restore(self) -> None:
        """The policies as the platform comes with them."""
        shutil.copytree(ROOT / "docker/cerbos/policies", self.policies, dirs_exist_ok=True)

    def command(self) -> list[str]:
        return [
            *(self.program, "server", f"--config={ROOT / 'docker/cerbos/config.yaml'}"),
            f"--set=server.httpListenAddr=127.0.0.1:{self.port}",
            f"--set=server.grpcListenAddr=unix:{self.folder}/grpc",
            f"--set=storage.disk.directory={self.policies}",
        ]

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/_cerbos/health", timeout=1) as answer:
                return b"SERVING" in answer.read()
        except OSError:
            return False


def find_postgres() -> Path:
    """The folder of PostgreSQL's programs: the newest of Debian's, else that on PATH."""
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    found = max(versions, key=lambda path: float(path.parts[-3]), default=None)
    found = found or shutil.which("initdb")
    if found is None:
        raise MissingProgram("PostgreSQL", "postgresql")
    return Path(found).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(
    condition: Callable[[], object], seconds: float = START_SECONDS, *, every: float = 0.03
) -> bool:
    """Waits until `condition()` holds; False when it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True
