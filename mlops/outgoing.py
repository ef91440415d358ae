"""One POST to an address that a user gave: never to a place that only this server can reach.

The name is resolved here, every address it stands for is checked, and the connection goes to the
very address that was checked: a name that resolves differently a moment later changes nothing.
Redirects are not followed and proxies of the environment are not used, since either would lead
elsewhere.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# As much of an answer as is read; only its status counts.
ANSWER_BYTES = 1024
# Networks that lead to an IPv4 address written inside an IPv6 one.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Refused(Exception):
    """The address is one that must not be called; the message says why and what would allow it."""


class Unreachable(Exception):
    """Nobody answered, or not as HTTP has it."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Where to may be sent. `networks`: private ones that are allowed all the same."""

    networks: tuple[Network, ...] = ()
    http: bool = False

    @classmethod
    def of(cls, networks: Iterable[str], *, http: bool) -> Policy:
        """Raises ValueError for what isn't a network."""
        return cls(tuple(ipaddress.ip_network(text.strip()) for text in networks), http)

    def allows(self, address: Address) -> bool:
        inner = _inner(address)
        if any(address in network or inner in network for network in self.networks):
            return True
        return _public(address) and _public(inner)


def check_url(url: str, policy: Policy) -> SplitResult:
    """What can be said without asking the network. Raises Refused."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Refused(f"'{url}' is not a URL: {error}.") from error
    schemes = ("https", "http") if policy.http else ("https",)
    if parts.scheme not in schemes:
        raise Refused(
            f"The URL must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}."
            + ("" if policy.http else " The operator may allow http by WEBHOOK_ALLOW_HTTP.")
        )
    if not parts.hostname or port == 0:
        raise Refused("The URL names no host.")
    if parts.username is not None or parts.password is not None:
        raise Refused("The URL must hold no user name or password.")
    if any(ord(letter) <= 32 or ord(letter) == 127 for letter in url):
        raise Refused("The URL holds blanks or control characters.")
    with suppress(ValueError):
        _check_address(ipaddress.ip_address(parts.hostname.partition("%")[0]), policy)
    return parts


def post(
    url: str, *, body: bytes, headers: dict[str, str], policy: Policy, timeout: float
) -> tuple[int, str]:
    """(status, beginning of the answer). Raises Refused or Unreachable.

    `timeout`: seconds for the whole of it, however slowly the other side trickles.
    """
    parts = check_url(url, policy)
    deadline = time.monotonic() + timeout
    connection = _connect(parts, policy, deadline)
    # A socket's own timeout begins anew at each byte.
    # (http.client lets go of it once an answer begins, so that it is held here.)
    watchdog = threading.Timer(max(0.0, deadline - time.monotonic()), _cut, [connection.sock])
    watchdog.daemon = True
    watchdog.start()
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", target, body, headers)
        answer = connection.getresponse()
        text = answer.read(ANSWER_BYTES).decode("utf-8", "replace")
        if time.monotonic() >= deadline:
            # What was cut off may look like a whole answer.
            raise TimeoutError
        return answer.status, text
    except (OSError, http.client.HTTPException, ValueError) as error:
        late = time.monotonic() >= deadline
        reason = f"no answer within {timeout:.0f} s" if late else f"{type(error).__name__}: {error}"
        raise Unreachable(reason) from error
    finally:
        watchdog.cancel()
        connection.close()


def _connect(parts: SplitResult, policy: Policy, deadline: float) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    failures = []
    for address in _resolve(host, port, policy):
        left = deadline - time.monotonic()
        if left <= 0:
            break
        try:
            plain = socket.create_connection((address, port), timeout=left)
        except OSError as error:
            failures.append(f"{address}: {error}")
            continue
        connection = http.client.HTTPConnection(host, parts.port, timeout=left)
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(host, parts.port, timeout=left)
            try:
                # The certificate is checked against the name, not the address.
                context = ssl.create_default_context()
                plain = context.wrap_socket(plain, server_hostname=host)
            except OSError as error:
                plain.close()
                raise Unreachable(f"TLS with {host}: {error}") from error
        connection.sock = plain
        return connection
    raise Unreachable("; ".join(failures) or "no connection in time")


def _resolve(host: str, port: int, policy: Policy) -> list[str]:
    """The addresses behind a name, all of which must be allowed: one bad one is a trap."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unreachable(f"The name {host} can't be resolved: {error}") from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        _check_address(ipaddress.ip_address(address.partition("%")[0]), policy)
    return addresses


def _check_address(address: Address, policy: Policy) -> None:
    if not policy.allows(address):
        raise Refused(
            f"{address} is not an address of the public internet. The operator may allow its "
            "network by WEBHOOK_ALLOW_NETWORKS."
        )


def _public(address: Address) -> bool:
    return address.is_global and not (
        address.is_multicast or address.is_reserved or address.is_unspecified
    )


def _inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 one leads to (mapped, 6to4, Teredo, NAT64), or itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
