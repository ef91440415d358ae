"""Requests to several OpenAI-compatible servers of one model, from one event loop."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import httpx2
import structlog

from llm.engines.base import Failed
from llm.engines.openai_answers import Garbage
from mlops.model_servers import Server, Servers

log = structlog.get_logger(__name__)

_CONNECT_SECONDS = 3.0
_PROBE_SECONDS = 2.0
# How often a request looks again for a server, where all are down or full.
_LOOK_SECONDS = 0.05
# A full server that says nothing else gets no new requests for this long.
_REST_SECONDS = 1.0
# One event of a stream; one answer of another kind, such as a few thousand vectors.
_LARGEST_EVENT, _LARGEST_ANSWER = 8 * 1024 * 1024, 256 * 1024 * 1024
_LARGEST_ERROR = 64 * 1024
# What a wrong key of ours says to a server is no fault of who asked us.
_OURS_TO_MEND = frozenset({301, 302, 303, 307, 308, 401, 403, 407})


class UpstreamFailed(Exception):
    """No answer came of it; `failed` says why, in terms of the API."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.message)
        self.failed = failed


class Upstream:
    """A request goes to the server with the least to do, of those that are well.

    Where a connection can't be made it goes to another; where one broke before the first token,
    once more, for a request that takes servers down must not take all of them down. Whatever a
    server answers is final. Use it in one loop only, but for `close`.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        key: str = "",
        timeout: float = 120.0,
        patience: float = 10.0,
        health: str = "/health",
    ) -> None:
        """`timeout`: seconds of silence after which a server is thought to hang.

        `patience`: how long a request waits for any server to be up. `health`: answers 200 where
        the server is well. Raises ValueError for a URL; a `/v1` at its end is left out.
        """
        if not urls:
            raise ValueError("Give the URL of a server, such as http://vllm:8000")
        for url in urls:
            parsed = httpx2.URL(url)
            if parsed.scheme not in ("http", "https") or not parsed.host:
                raise ValueError(f"'{url}' is no URL such as http://vllm:8000")
        options: dict[str, Any] = {
            "headers": {
                # What is unpacked can't be bounded by what arrives.
                "Accept-Encoding": "identity",
                **({"Authorization": f"Bearer {key}"} if key else {}),
            },
            # The servers stand in the same network: no proxy meant for the internet.
            "trust_env": False,
        }
        self._http = httpx2.AsyncClient(
            **options,
            timeout=httpx2.Timeout(timeout, connect=min(_CONNECT_SECONDS, timeout), pool=None),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64),
        )
        self._prober = httpx2.Client(**options, timeout=_PROBE_SECONDS)
        self._health = health
        self._timeout = timeout
        self._patience = patience
        roots = [url.rstrip("/").removesuffix("/v1") for url in urls]
        self._servers = Servers(roots, self._is_well, patience=patience)

    async def stream(
        self,
        path: str,
        body: Mapping[str, Any],
        *,
        request_id: str,
        begun: Callable[[], bool],
    ) -> AsyncIterator[dict[str, Any]]:
        """The chunks of an answer. Raises UpstreamFailed.

        Once `begun()` the request is not tried again: part of the answer has gone out.
        """
        broken = False
        while True:
            server = await self._take()
            try:
                async with aclosing(self._chunks(server, path, body, request_id)) as chunks:
                    async for chunk in chunks:
                        yield chunk
                return
            except httpx2.TransportError as error:
                broken = self._judge(server, error, final=broken or begun())
            except Garbage as error:
                self._servers.put_aside(server, f"answered what is no stream of chunks ({error})")
                raise UpstreamFailed(garbage(error)) from error
            finally:
                self._servers.give_back(server)

    async def ask(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """One answer in one piece. Raises UpstreamFailed."""
        broken = False
        while True:
            server = await self._take()
            try:
                return await self._answer(server, path, body)
            except httpx2.TransportError as error:
                broken = self._judge(server, error, final=broken)
            except Garbage as error:
                raise UpstreamFailed(garbage(error)) from error
            finally:
                self._servers.give_back(server)

    async def close(self) -> None:
        await self._http.aclose()
        self._prober.close()

    async def _take(self) -> Server:
        deadline = time.monotonic() + self._patience
        server, wait = self._servers.try_to_take(deadline, first=True)
        while server is None and wait:
            await asyncio.sleep(min(wait, _LOOK_SECONDS))
            server, wait = self._servers.try_to_take(deadline)
        if server is None:
            log.warning("no_model_server", servers=self._servers.faults())
            raise UpstreamFailed(
                Failed(
                    "None of the servers of this model can be reached. Try again later.",
                    code="model_server_unavailable",
                    status=503,
                    retry_after=_REST_SECONDS,
                )
            )
        return server

    def _judge(self, server: Server, error: httpx2.TransportError, *, final: bool) -> bool:
        """Returns if the request may be tried again, and says whether that was its last chance."""
        if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
            self._servers.put_aside(server, f"can't be reached ({error})")
            return final
        if isinstance(error, httpx2.TimeoutException):
            fault = f"said nothing for {self._timeout:g} s"
        else:
            fault = f"broke the connection ({error or type(error).__name__})"
            if not final:
                self._servers.put_aside(server, fault)
                return True
        self._servers.put_aside(server, fault)
        log.warning("model_server_failed", url=server.url, fault=fault)
        timed_out = isinstance(error, httpx2.TimeoutException)
        raise UpstreamFailed(
            Failed(
                f"The model's server {fault}.",
                code="model_server_timeout" if timed_out else "model_server_broke_off",
                status=504 if timed_out else 502,
            )
        ) from error

    async def _chunks(
        self, server: Server, path: str, body: Mapping[str, Any], request_id: str
    ) -> AsyncIterator[dict[str, Any]]:
        """Raises httpx2.TransportError, Garbage and UpstreamFailed."""
        async with self._http.stream(
            "POST", server.url + path, json=body, headers={"X-Request-ID": request_id}
        ) as response:
            if response.status_code != 200:
                raise await self._refused(server, response)
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                raise Garbage(f"content type {response.headers.get('content-type')!r}")
            async for data in _events(response):
                if data == b"[DONE]":
                    return
                chunk = _object(data)
                if "error" in chunk:
                    raise UpstreamFailed(_failed(502, chunk, data))
                yield chunk
            raise httpx2.RemoteProtocolError("the stream has no end")

    async def _answer(self, server: Server, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        async with self._http.stream("POST", server.url + path, json=body) as response:
            if response.status_code != 200:
                raise await self._refused(server, response)
            return _object(await _body(response, _LARGEST_ANSWER))

    async def _refused(self, server: Server, response: httpx2.Response) -> UpstreamFailed:
        status, content = response.status_code, await _body(response, _LARGEST_ERROR)
        wait = _seconds(response.headers.get("retry-after", ""))
        if status == 503:
            self._servers.rest(server, wait or _REST_SECONDS)
        try:
            answer = _object(content)
        except Garbage:
            answer = {}
        failed = _failed(502 if status in _OURS_TO_MEND else status, answer, content, wait)
        log.warning("model_server_refused", url=server.url, status=status, error=failed.message)
        return UpstreamFailed(failed)

    def _is_well(self, url: str) -> bool:
        try:
            return self._prober.get(f"{url}{self._health}").status_code == 200
        except httpx2.HTTPError:
            return False


async def _events(response: httpx2.Response) -> AsyncIterator[bytes]:
    """The data of each server-sent event, as the OpenAI API sends them: one line each.

    Raises Garbage for one that does not end.
    """
    rest = b""
    async for piece in response.aiter_raw():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()
        if len(rest) > _LARGEST_EVENT:
            raise Garbage(f"an event of more than {_LARGEST_EVENT:,} bytes")
    if rest.startswith(b"data:"):
        yield rest[5:].strip()


async def _body(response: httpx2.Response, largest: int) -> bytes:
    """Raises Garbage where it is larger."""
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > largest:
            raise Garbage(f"more than {largest:,} bytes")
    return bytes(body)


def _object(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Garbage(repr(content[:100]))
    return found


def _failed(
    status: int, answer: Mapping[str, Any], content: bytes, retry_after: float | None = None
) -> Failed:
    """The server's own words, where it has the API's form of an error or one that is common."""
    code, param = None, None
    match answer:
        case {"error": {"message": str(message), **more}}:
            code, param = more.get("code") or more.get("type"), more.get("param")
        case {"error": str(message)} | {"message": str(message)} | {"detail": str(message)}:
            pass
        case _:
            message = (
                f"The model's server answered {status}: {content[:200].decode(errors='replace')}"
            )
    return Failed(
        message,
        code=code if isinstance(code, str) else "model_server_error",
        param=param if isinstance(param, str) else None,
        status=status,
        retry_after=retry_after,
    )


def garbage(error: Garbage) -> Failed:
    return Failed(
        f"The model's server answered what is no answer of the API: {error}",
        code="model_server_garbage",
        status=502,
    )


def _seconds(retry_after: str) -> float | None:
    try:
        return max(float(retry_after), 0.0)
    except ValueError:
        return None
