"""Servers that behave as a test says: slow, dying, lying."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Behaviour = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """One request to a server that behaves as its test says."""

    protocol_version = "HTTP/1.1"
    server: Misbehaving
    body = b""
    streaming = False

    def do_GET(self) -> None:
        self.answer(200 if self.server.well else 503, {"model_loaded": self.server.well})

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests += 1
        self.server.behave(self)

    def answer(self, status: int, body: Any, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def stream(self, *events: Any, end: bool = True) -> None:
        """Server-sent events: dicts as JSON, strings as they are; without `end` more may follow."""
        if not self.streaming:
            self.streaming = True
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream; charset=utf-8")
            self.send_header("Connection", "close")
            self.end_headers()
        for event in events:
            text = event if isinstance(event, str) else json.dumps(event)
            self.wfile.write(f"data: {text}\n\n".encode())
        self.wfile.flush()
        self.close_connection = end

    def drop(self) -> None:
        """The connection breaks, as it does when a process dies."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


class Misbehaving(ThreadingHTTPServer):
    """A model server in a thread; `well` is what its /health says."""

    daemon_threads = True

    def __init__(self, behave: Behaviour, *, well: bool = True, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.behave, self.well, self.requests = behave, well, 0
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def __enter__(self) -> Self:
        return self
