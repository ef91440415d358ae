"""Reply streams as rows, for installations without Redis."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import structlog
from django.db import DatabaseError, close_old_connections

from llm.models import RelayEntry

log = structlog.get_logger(__name__)

# 25 writes a second: people see no difference, and a SQLite file has time for others.
WRITE_SECONDS = 0.04
READ_SECONDS = 0.025


class DatabaseWriter:
    pause = WRITE_SECONDS

    def write(self, entries: list[tuple[str, str]]) -> bool:
        close_old_connections()
        try:
            RelayEntry.objects.bulk_create(
                RelayEntry(stream=stream, events=entry) for stream, entry in entries
            )
        except DatabaseError as error:
            log.warning("relay_not_written", error=str(error), entries=len(entries))
            return False
        finally:
            close_old_connections()
        return True


class DatabaseReader:
    """Reads and deletes. By row, not from a number on: numbers are given before they are seen."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        # A thread of its own: those of requests end with them.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="relay")

    async def read(self) -> list[str]:
        """What has come; waits a moment if that is nothing."""
        loop = asyncio.get_running_loop()
        entries = await loop.run_in_executor(self._thread, self._take)
        if not entries:
            await asyncio.sleep(READ_SECONDS)
        return entries

    async def close(self) -> None:
        """Nothing is held between two looks."""

    def _take(self) -> list[str]:
        close_old_connections()
        try:
            rows = RelayEntry.objects.filter(stream=self._stream)
            found = list(rows.order_by("id").values_list("id", "events"))
            if found:
                rows.filter(id__in=[pk for pk, _events in found]).delete()
            return [events for _pk, events in found]
        finally:
            close_old_connections()
