"""The OCR model server's client: pages to `POST /predict` of one or several servers."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import httpx2

from mlops.model_servers import Server, Servers

# A page of 2,000 lines with a box for each word has about 1 MB.
_LARGEST_ANSWER = 64 * 1024 * 1024
_CONNECT_SECONDS = 3.0
_PROBE_SECONDS = 2.0
# A full server that says nothing else is asked again after this long, and never later than that.
_SHORT_REST, _LONG_REST = 0.5, 5.0


class ModelServerError(Exception):
    """No result came of it; the message says which server did what."""


class ModelServerClient:
    """Safe to use from several threads; connections are kept and shared.

    A request goes to another server when its own can't be reached or is full; once more when the
    connection broke after it was sent, for a page that takes servers down must not take them all
    down. A timeout and any other answer is final.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        token: str = "",
        timeout: float = 60.0,
        patience: float = 10.0,
        connect_timeout: float = _CONNECT_SECONDS,
    ) -> None:
        """`timeout`: seconds for one page, waiting for a server that is full included.

        `patience`: how long a page waits for any server to be up. Raises ValueError for a URL.
        """
        if not urls:
            raise ValueError("Give the URL of a model server, such as http://ocr-server:8001")
        for url in urls:
            parsed = httpx2.URL(url)
            if parsed.scheme not in ("http", "https") or not parsed.host:
                raise ValueError(f"'{url}' is no URL such as http://ocr-server:8001")
        self._timeout = timeout
        self._http = httpx2.Client(
            headers={
                # What is unpacked can't be bounded by what arrives.
                "Accept-Encoding": "identity",
                **({"Authorization": f"Bearer {token}"} if token else {}),
            },
            timeout=httpx2.Timeout(timeout, connect=min(connect_timeout, timeout), pool=None),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64),
            # The servers stand in the same network: no proxy meant for the internet.
            trust_env=False,
        )
        self._servers = Servers([url.rstrip("/") for url in urls], self._is_well, patience=patience)

    def predict(self, image: bytes, **fields: str) -> dict[str, Any]:
        """The server's answer: `text_boxes`, `full_text`, `status` and more. Never raises.

        `image`: an encoded image or a PDF. `fields`: language, confidence_threshold and others.
        What went wrong is `{"status": "failed", "error": why}`, with no text.
        """
        try:
            return self._predict(image, fields)
        except ModelServerError as error:
            return {"status": "failed", "error": str(error), "text_boxes": [], "full_text": ""}

    def close(self) -> None:
        self._http.close()

    def _predict(self, image: bytes, fields: dict[str, str]) -> dict[str, Any]:
        deadline = time.monotonic() + self._timeout
        broken = 0
        while server := self._servers.take(deadline):
            try:
                status, headers, body = self._send(server.url, image, fields, deadline)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                self._servers.put_aside(server, f"can't be reached ({error})")
            except (httpx2.TimeoutException, TimeoutError) as error:
                fault = f"gave no result within {self._timeout:g} s"
                self._servers.put_aside(server, fault)
                raise ModelServerError(f"{server.url} {fault}.") from error
            except httpx2.HTTPError as error:
                self._servers.put_aside(server, f"broke the connection ({error})")
                broken += 1
                if broken > 1:
                    raise ModelServerError(
                        f"{server.url} broke the connection while it read the page ({error}), as "
                        "a server had before. See the servers' logs."
                    ) from error
            else:
                if status == 503:
                    self._servers.rest(server, _rest(headers.get("retry-after", "")))
                    continue
                return self._answer(server, status, body)
            finally:
                self._servers.give_back(server)
        raise ModelServerError(
            f"No model server took the page. {self._servers.faults()}. "
            "Check OCR_MODEL_SERVER_URL, and that manage.py serve_ocr runs there."
        )

    def _send(
        self, url: str, image: bytes, fields: dict[str, str], deadline: float
    ) -> tuple[int, httpx2.Headers, bytes]:
        """Raises httpx2.HTTPError, TimeoutError and, for an endless answer, ModelServerError."""
        files = {"image": ("page", image, "application/octet-stream")}
        with self._http.stream("POST", f"{url}/predict", files=files, data=fields) as response:
            body = bytearray()
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > _LARGEST_ANSWER:
                    raise ModelServerError(f"{url} answered more than {_LARGEST_ANSWER:,} bytes.")
                if time.monotonic() > deadline:
                    # Each chunk came in time, but they don't end.
                    raise TimeoutError
            return response.status_code, response.headers, bytes(body)

    def _answer(self, server: Server, status: int, body: bytes) -> dict[str, Any]:
        """What a server made of the page, if it is of the form agreed on."""
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            answer = None
        if status not in (200, 422):
            raise ModelServerError(f"{server.url} answered {status}: {_message(answer, body)}")
        if not _is_result(answer):
            fault = f"answered what is no result: {_message(answer, body)}"
            self._servers.put_aside(server, fault)
            raise ModelServerError(f"{server.url} {fault}")
        return answer

    def _is_well(self, url: str) -> bool:
        try:
            response = self._http.get(f"{url}/health", timeout=_PROBE_SECONDS)
            return response.status_code == 200 and response.json()["model_loaded"] is True
        except (httpx2.HTTPError, ValueError, RecursionError, LookupError, TypeError):
            return False


def _is_result(answer: Any) -> bool:
    return (
        isinstance(answer, dict)
        and isinstance(answer.get("status"), str)
        and isinstance(answer.get("full_text"), str)
        and isinstance(answer.get("text_boxes"), list)
    )


def _message(answer: Any, body: bytes) -> str:
    """The error's text in the platform's form, else how the body begins."""
    match answer:
        case {"error": {"message": str(message)}} | {"error": str(message)}:
            return message
    return repr(body[:100])


def _rest(retry_after: str) -> float:
    try:
        return min(max(float(retry_after), _SHORT_REST), _LONG_REST)
    except ValueError:
        return _SHORT_REST
