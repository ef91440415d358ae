"""Where other machines reach this one."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from django.conf import settings


def own_address() -> str:
    """As TRAINING_ADDRESS says; else that of the interface towards the database or the broker.

    Where neither is on a network all workers are on this machine.
    """
    if settings.TRAINING_ADDRESS:
        return settings.TRAINING_ADDRESS
    found = [one for host, port in _servers() if (one := _towards(host, port))]
    return next((one for one in found if not ipaddress.ip_address(one).is_loopback), "127.0.0.1")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def _servers() -> list[tuple[str, int]]:
    database = settings.DATABASES["default"]
    broker = urlsplit(settings.CELERY_BROKER_URL)
    found = [(database.get("HOST") or "", int(database.get("PORT") or 5432))]
    found.append((broker.hostname or "", broker.port or 6379))
    # A path is that of a socket on this machine.
    return [(host, port) for host, port in found if host and not host.startswith("/")]


def _towards(host: str, port: int) -> str:
    """This machine's address on the way there; "" if none leads there. Nothing is sent."""
    try:
        for family, kind, _, _, place in socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM):
            with socket.socket(family, kind) as probe:
                probe.connect(place)
                return probe.getsockname()[0].partition("%")[0]
    except OSError:
        pass
    return ""
