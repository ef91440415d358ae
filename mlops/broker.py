"""A message broker that is a folder: kombu's filesystem transport, made safe for hot polling.

kombu writes a message in place, so that a consumer may take half of one and lose it. Here every
file appears whole: written under another name, then renamed. `filesystem://` as the broker's URL
names it, once `register_transport()` has run.

Priorities are Redis's: 0 goes first. A message taken by a worker that is then killed is gone, as
with kombu's own: the job row is the truth, and a reconciler sends it again.
"""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty
from typing import Any, ClassVar

from kombu.transport import TRANSPORT_ALIASES, filesystem, virtual
from kombu.transport.filesystem import exchange_queue_t
from kombu.utils.json import dumps, loads

# Taken messages are kept this long, to see what was delivered; so are the messages to control
# queues whose worker is gone, and temporary files that a killed writer left.
KEEP_SECONDS = 6 * 3600
SWEEP_EVERY_SECONDS = 600


def register_transport() -> None:
    """Makes `filesystem://` mean the transport of this module, in this process."""
    TRANSPORT_ALIASES["filesystem"] = "mlops.broker:Transport"


def transport_options(
    url: str, *, folder: Path, visibility_timeout: float, poll_seconds: float = 0.2
) -> dict[str, Any]:
    """Celery's `broker_transport_options` for the broker at `url`.

    `folder` holds the messages of a file broker, which is looked at every `poll_seconds`;
    `visibility_timeout`, in seconds, is Redis's.
    """
    scheme = url.partition("://")[0]
    if scheme == "filesystem":
        return {**filesystem_options(folder), "polling_interval": poll_seconds}
    if scheme in ("redis", "rediss", "sentinel"):
        return {
            "visibility_timeout": visibility_timeout,
            "priority_steps": [0, 3, 6, 9],
            "sep": ":",
            "queue_order_strategy": "priority",
        }
    return {}


def filesystem_options(folder: Path) -> dict[str, Any]:
    """The options of a broker in `folder`, which is made when a process first connects."""
    return {
        "data_folder_in": str(folder / "messages"),
        "data_folder_out": str(folder / "messages"),
        "control_folder": str(folder / "control"),
        "processed_folder": str(folder / "processed"),
        "store_processed": True,
        "polling_interval": Transport.polling_interval,
    }


def write_whole(path: Path, content: str) -> None:
    """Write `path` so that no reader sees a part of it. The temporary name is no queue's."""
    temporary = path.parent / f".{uuid.uuid4().hex}.tmp"
    temporary.write_text(content, encoding="utf-8")
    temporary.replace(path)


class Channel(filesystem.Channel):
    """Messages are files `<priority>_<time>_<id>.<queue>.msg`, so names sort as they are due."""

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        self.messages = Path(self.data_folder_in)
        self.taken = Path(self.processed_folder)
        for folder in (self.messages, Path(self.data_folder_out), self.taken, self.control_folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._swept = 0.0

    def _put(self, queue: str, payload: dict[str, Any], **kwargs: Any) -> None:
        priority = self._get_message_priority(payload)
        name = f"{priority}_{time.time_ns():020d}_{uuid.uuid4().hex}.{queue}.msg"
        write_whole(Path(self.data_folder_out) / name, dumps(payload))

    def _waiting(self, queue: str) -> list[str]:
        end = f".{queue}.msg"
        names = os.listdir(self.messages)  # noqa: PTH208 - names alone: this runs at each poll
        return [
            name for name in names if name.endswith(end) and name.find(".") == len(name) - len(end)
        ]

    def _get(self, queue: str) -> dict[str, Any]:
        self._sweep()
        for name in sorted(self._waiting(queue)):
            taken = self.taken / name
            try:
                # Opened first: once renamed, another process's sweep may remove it.
                with (self.messages / name).open(encoding="utf-8") as file:
                    (self.messages / name).rename(taken)
                    content = file.read()
            except FileNotFoundError:
                continue  # another consumer was faster
            if not self.store_processed:
                taken.unlink(missing_ok=True)
            return loads(content)
        raise Empty

    def _size(self, queue: str) -> int:
        return len(self._waiting(queue))

    def _purge(self, queue: str) -> int:
        count = 0
        for name in self._waiting(queue):
            try:
                (self.messages / name).unlink()
            except FileNotFoundError:
                continue
            count += 1
        return count

    def get_table(self, exchange: str) -> list[exchange_queue_t]:
        """The queues bound to `exchange`, as all processes have bound them."""
        try:
            content = self._exchange_file(exchange).read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        return [exchange_queue_t(*row) for row in loads(content)]

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        binding = exchange_queue_t(routing_key or "", pattern or "", queue or "")
        with self._changing(exchange) as table:
            if binding not in table:
                table.insert(0, binding)

    def _delete(
        self, queue: str, exchange: str, routing_key: str, pattern: str, *args: Any, **kwargs: Any
    ) -> None:
        self._purge(queue)
        binding = exchange_queue_t(routing_key or "", pattern or "", queue or "")
        with self._changing(exchange) as table:
            if binding in table:
                table.remove(binding)

    @contextmanager
    def _changing(self, exchange: str) -> Iterator[list[exchange_queue_t]]:
        """The table of `exchange`, written back if changed; one process at a time."""
        file = self._exchange_file(exchange)
        with file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = self.get_table(exchange)
            table = list(before)
            yield table
            if table != before:
                write_whole(file, dumps(table))

    def _sweep(self) -> None:
        """Now and then, remove what nobody will read any more."""
        now = time.monotonic()
        if now - self._swept < SWEEP_EVERY_SECONDS:
            return
        self._swept = now
        oldest = time.time() - KEEP_SECONDS
        for folder in (self.taken, self.messages, self.control_folder):
            with os.scandir(folder) as entries:
                for entry in entries:
                    if folder is self.taken or _is_transient(entry.name):
                        _remove_if_older(entry, oldest)


def _is_transient(name: str) -> bool:
    """Temporary files, and messages for one process alone: control requests, replies, events."""
    queue = name.partition(".")[2]
    return (
        (name.startswith(".") and name.endswith(".tmp"))
        or queue.endswith(".pidbox.msg")
        or queue.startswith("celeryev.")
    )


def _remove_if_older(entry: os.DirEntry[str], oldest: float) -> None:
    with suppress(FileNotFoundError):  # taken, or swept by another process
        if entry.stat().st_mtime < oldest:
            Path(entry.path).unlink()


class Transport(filesystem.Transport):
    """Exchanges and bindings are remembered a folder: two brokers in a process stay apart."""

    Channel = Channel
    polling_interval = 0.2
    # A folder has no host: kombu would warn that it takes localhost for want of one.
    default_connection_params: ClassVar[dict[str, Any]] = {}
    _states: ClassVar[dict[str, virtual.BrokerState]] = {}

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        folder = str(client.transport_options.get("control_folder", "control"))
        self.state = self._states.setdefault(folder, virtual.BrokerState())
