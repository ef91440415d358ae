"""Stops request bodies over the limit before they fill the disk."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from django.conf import settings

from mlops.api import error_body

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# A multipart body is larger than the file in it.
MARGIN = 64 * 1024


class BodyLimit:
    """ASGI middleware: 413 by the stated length, or as soon as a chunked body passes the limit.

    Django under ASGI stores the whole body before any of its own code runs, so the limit has to
    stand outside it.
    """

    def __init__(self, application: Callable[[Message, Receive, Send], Awaitable[None]]) -> None:
        self.application = application

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        most, setting = settings.UPLOAD_LIMITS.get(
            scope["path"].rstrip("/"), (settings.MAX_UPLOAD_BYTES, "MAX_UPLOAD_MB")
        )
        limit = most + MARGIN
        stated = dict(scope["headers"]).get(b"content-length", b"")
        if stated.isdigit() and int(stated) > limit:
            await self._refuse(send, most, setting)
            return
        received, refused = 0, False

        async def counted_receive() -> Message:
            nonlocal received, refused
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                # To Django the client has gone; the answer is sent below.
                refused = True
                return {"type": "http.disconnect"}
            return message

        await self.application(scope, counted_receive, send)
        if refused:
            await self._refuse(send, most, setting)

    async def _refuse(self, send: Send, most: int, setting: str) -> None:
        megabytes = most // 1024**2
        body = json.dumps(
            error_body(
                message=f"The upload is larger than {megabytes} MB. Split the file, or ask the "
                f"operator to raise {setting}.",
                code="file_too_large",
                status=413,
            )
        ).encode()
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": body})
