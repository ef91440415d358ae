"""Who may ask a model server: whoever sends its token, or anyone on its own machine."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from mlops.exceptions import ApplicationError

Endpoint = Callable[[Request], Awaitable[Response]]


def guarded(endpoint: Endpoint, token: str) -> Endpoint:
    """Raises ApplicationError (401) without the token, unless that is empty."""
    wanted = f"Bearer {token}".encode()

    async def guard(request: Request) -> Response:
        given = request.headers.get("authorization", "").encode("latin-1")
        if token and not hmac.compare_digest(given, wanted):
            raise ApplicationError(
                "Send the server's token (MODEL_SERVER_TOKEN) as a bearer token.",
                code="not_authenticated",
                status=401,
            )
        return await endpoint(request)

    return guard


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
