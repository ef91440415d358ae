"""`manage.py llm_chat`: a conversation in the terminal, in this process or with a server."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("fake_engine")]


def talk(monkeypatch: pytest.MonkeyPatch, typed: str, *options: str) -> tuple[str, str]:
    """What stands on stdout and on stderr once all was typed."""
    out, err = StringIO(), StringIO()
    monkeypatch.setattr(sys, "stdin", StringIO(typed))
    call_command("llm_chat", "--model=m", "--engine=fake", *options, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def tokens_read(err: str) -> list[int]:
    """Of each answer: what the model was given, the conversation so far."""
    lines = [line for line in err.splitlines() if line.startswith("[")]
    return [int(line[1:].split(" ")[0]) for line in lines]


def test_answers_are_streamed_and_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = talk(monkeypatch, "hello you\nand more\n")
    assert out.splitlines() == ["hello you", "and more"]
    # The second is given with the first and its answer.
    assert tokens_read(err) == [2, 6]
    assert "m on cpu fake" in err


def test_reset_and_exit_and_system(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = "one\n/reset\ntwo\n/nonsense\n\n/exit\nthree\n"
    out, err = talk(monkeypatch, typed, "--system=be brief")
    assert out.splitlines() == ["one", "two"]
    assert tokens_read(err) == [3, 3]
    assert err.count("/exit ends") == 2, "once at the start, once for what is no command"


def test_an_error_is_told_and_the_message_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = talk(monkeypatch, f"{'long ' * 1500}\nfail 2\nhello\n", "--max-tokens=5")
    assert "context is 1000 tokens" in err and "The model's fault" in err
    assert tokens_read(err) == [1]
    assert out.splitlines()[-1] == "hello"


def test_a_model_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CommandError, match="Copy it again"):
        talk(monkeypatch, "", "--model=damaged")


class Handler(BaseHTTPRequestHandler):
    """A chat server that says of each conversation how long it is."""

    asked: list[tuple[str | None, dict[str, Any]]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).asked.append((self.headers["Authorization"], body))
        if body["model"] == "unknown":
            error = json.dumps({"error": {"message": "no such model"}}).encode()
            self.send_response(404)
            self.end_headers()
            self.wfile.write(error)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        words = [f"{len(body['messages'])} ", "messages"]
        chunks = [{"choices": [{"delta": {"content": word}}]} for word in words]
        if body["messages"][-1]["content"] == "break":
            chunks = [*chunks[:1], {"error": {"message": "the worker died"}}]
        else:
            usage = {"prompt_tokens": 9, "completion_tokens": 2}
            chunks.append({"choices": [], "usage": usage})
        for chunk in chunks:
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_: Any) -> None:
        """Nothing: the test looks at what was asked."""


@pytest.fixture
def server() -> Iterator[str]:
    Handler.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def test_with_a_server(monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "mk-secret")
    out, err = talk(monkeypatch, "hello\nbreak\nagain\n", f"--url={server}", "--temperature=0")
    assert out.splitlines() == ["1 messages", "3 ", "3 messages"]
    assert "the worker died" in err and tokens_read(err) == [9, 9]
    key, body = Handler.asked[-1]
    assert key == "Bearer mk-secret"
    assert body["stream"] is True and body["temperature"] == 0
    assert [one["content"] for one in body["messages"]] == ["hello", "1 messages", "again"]


def test_a_server_that_refuses_or_is_away(monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    _out, err = talk(monkeypatch, "hello\n", f"--url={server}", "--model=unknown")
    assert "404: no such model" in err
    _out, err = talk(monkeypatch, "hello\n", "--url=http://127.0.0.1:9/v1")
    assert "can't be asked" in err
