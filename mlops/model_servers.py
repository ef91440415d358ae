"""Which of several model servers gets the next request.

The one with the fewest requests under way, of those that are well. One that fails is put aside
and asked for its health in the background, ever less often, until it is well again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0


@dataclass(slots=True, eq=False)
class Server:
    """`fault` says why it is aside; empty while it is well."""

    url: str
    under_way: int = 0
    taken: int = 0
    busy_until: float = 0.0
    fault: str = ""
    aside_since: float = 0.0
    probe_at: float = 0.0
    pause: float = _FIRST_PAUSE
    probing: bool = False


class Servers:
    """`probe(url)` says whether a server is well; it must not raise.

    `patience`: seconds for which a request waits where all servers are aside, counted from the
    moment the last of them failed: once that is over a request asks each once more and fails.
    """

    def __init__(
        self, urls: Sequence[str], probe: Callable[[str], bool], *, patience: float
    ) -> None:
        self._servers = [Server(url) for url in urls]
        self._probe = probe
        self._patience = patience
        self._changed = threading.Condition()

    def take(self, deadline: float) -> Server | None:
        """A server for one request, or None if there is none until `deadline` (monotonic).

        Give it back.
        """
        with self._changed:
            server, wait = self.try_to_take(deadline, first=True)
            while wait:
                self._changed.wait(wait)
                server, wait = self.try_to_take(deadline)
            return server

    def try_to_take(self, deadline: float, *, first: bool = False) -> tuple[Server | None, float]:
        """As `take`, for those who wait in another way: a server, or seconds until the next try.

        Neither: there is none. `first` says that the request has not tried before.
        """
        with self._changed:
            if first:
                self._ask_again_if_all_are_aside()
            now = time.monotonic()
            self._start_probes(now)
            well = [one for one in self._servers if not one.fault]
            free = [one for one in well if one.busy_until <= now]
            if free:
                best = min(free, key=lambda one: (one.under_way, one.taken))
                best.under_way += 1
                best.taken += 1
                return best, 0
            until = deadline
            if not well and not any(one.probing for one in self._servers):
                since = max(one.aside_since for one in self._servers)
                until = min(until, since + self._patience)
            if now >= until:
                return None, 0
            events = [one.busy_until for one in well]
            events += [one.probe_at for one in self._servers if one.fault and not one.probing]
            return None, max(min([until, *events]) - now, 0.001)

    def give_back(self, server: Server) -> None:
        with self._changed:
            server.under_way -= 1
            self._changed.notify_all()

    def put_aside(self, server: Server, fault: str) -> None:
        """It failed: no request goes to it until a probe finds it well."""
        with self._changed:
            if not server.fault:
                server.aside_since = server.probe_at = time.monotonic()
                server.pause = _FIRST_PAUSE
            server.fault = fault
            self._changed.notify_all()

    def rest(self, server: Server, seconds: float) -> None:
        """It is full: it gets no request for this long."""
        with self._changed:
            server.busy_until = time.monotonic() + seconds

    def faults(self) -> str:
        """Why none could be taken, server by server."""
        with self._changed:
            return "; ".join(f"{one.url}: {one.fault or 'full'}" for one in self._servers)

    def _ask_again_if_all_are_aside(self) -> None:
        """Without waiting for their next turn: one may have come back since nobody asked."""
        if all(one.fault for one in self._servers):
            for server in self._servers:
                server.probe_at = 0.0

    def _start_probes(self, now: float) -> None:
        for server in self._servers:
            if server.fault and not server.probing and server.probe_at <= now:
                server.probing = True
                threading.Thread(
                    target=self._look, args=(server,), name="model-server-probe", daemon=True
                ).start()

    def _look(self, server: Server) -> None:
        well = self._probe(server.url)
        with self._changed:
            server.probing = False
            if well:
                server.fault = ""
                server.pause = _FIRST_PAUSE
            else:
                server.probe_at = time.monotonic() + server.pause
                server.pause = min(server.pause * 2, _LONGEST_PAUSE)
            self._changed.notify_all()
