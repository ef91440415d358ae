"""How a trainer's process tells: whole lines, appended to a file that somebody else reads."""

from __future__ import annotations

from pathlib import Path

from finetune.engines.base import EVENTS, STOP, Event, Failed, event_line

# Kept on the disk so that there is room for the last word once it is full.
RESERVE, RESERVE_BYTES = "events.reserve", 64 * 1024


class FileTeller:
    """Tells in <work>/events.jsonl. Of several processes only the main one tells.

    Failures are told by any: the main one may be waiting for the one that has failed.
    """

    def __init__(self, work: Path, *, main: bool = True) -> None:
        self._main, self._stop = main, work / STOP
        self._events, self._reserve = work / EVENTS, work / RESERVE
        if main:
            self._reserve.write_bytes(b"\0" * RESERVE_BYTES)

    def tell(self, event: Event) -> None:
        if isinstance(event, Failed):
            self._reserve.unlink(missing_ok=True)
        elif not self._main:
            return
        # In one piece: lines of two processes must not mix.
        with self._events.open("ab", buffering=0) as file:
            file.write(f"{event_line(event)}\n".encode())

    def asked_to_stop(self) -> bool:
        return self._stop.exists()
