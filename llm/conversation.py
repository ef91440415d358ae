"""A conversation with a model, in this process or over HTTP: a message in, its answer streamed."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from llm.ask import ask
from llm.local import LocalModel
from llm.openai.generation import chat_generation
from llm.openai.requests import ChatRequest
from mlops.exceptions import ApplicationError

# A model may have to be loaded first.
TIMEOUT_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Said:
    """An answer: its text, tokens in and out, seconds to the first piece and to the end."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    first: float
    seconds: float


class Speaker(Protocol):
    """Answers a conversation's body; `told` is called with each piece. Raises ApplicationError."""

    def answer(self, body: dict[str, Any], told: Callable[[str], None]) -> Said: ...


@dataclass(slots=True)
class Conversation:
    """Messages so far; `options` are of every request."""

    speaker: Speaker
    model: str
    system: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    messages: list[dict[str, str]] = field(default_factory=list)

    def reset(self) -> None:
        self.messages.clear()

    def say(self, text: str, told: Callable[[str], None]) -> Said:
        """A message that got no answer is forgotten. Raises ApplicationError."""
        asked = [*self.messages, {"role": "user", "content": text}]
        first = [{"role": "system", "content": self.system}] if self.system else []
        body = {"model": self.model, "messages": [*first, *asked], **self.options}
        said = self.speaker.answer(body, told)
        self.messages = [*asked, {"role": "assistant", "content": said.text}]
        return said


class LocalSpeaker:
    """A model that this process holds."""

    def __init__(self, local: LocalModel) -> None:
        self._local = local

    def answer(self, body: dict[str, Any], told: Callable[[str], None]) -> Said:
        started = time.monotonic()
        firsts: list[float] = []

        def on_text(_index: int, text: str) -> None:
            firsts.append(time.monotonic() - started)
            told(text)

        request = chat_generation(
            ChatRequest.parse(body), request_id=uuid.uuid4().hex, adapter=self._local.adapter
        )
        answer = ask(self._local.loaded, request, on_text=on_text)
        seconds = time.monotonic() - started
        usage = answer.usage
        return Said(
            answer.text, usage.prompt, usage.completion, firsts[0] if firsts else seconds, seconds
        )


class RemoteSpeaker:
    """A server with OpenAI's API; `url` ends in /v1."""

    def __init__(self, url: str, key: str) -> None:
        self._url, self._key = url.rstrip("/"), key

    def answer(self, body: dict[str, Any], told: Callable[[str], None]) -> Said:
        import httpx2

        started = time.monotonic()
        texts: list[str] = []
        first = 0.0
        usage: dict[str, int] = {}
        sent = {**body, "stream": True, "stream_options": {"include_usage": True}}
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        try:
            with (
                httpx2.Client(timeout=TIMEOUT_SECONDS, headers=headers) as http,
                http.stream("POST", f"{self._url}/chat/completions", json=sent) as answer,
            ):
                if answer.status_code != 200:
                    answer.read()
                    raise _refused(answer.status_code, answer.text)
                for chunk in _chunks(answer.iter_lines()):
                    usage = chunk.get("usage") or usage
                    for choice in chunk.get("choices", []):
                        text = choice["delta"].get("content") or ""
                        if text:
                            first = first or time.monotonic() - started
                            texts.append(text)
                            told(text)
        except httpx2.HTTPError as error:
            raise ApplicationError(
                f"{self._url} can't be asked: {error or type(error).__name__}.",
                code="server_unreachable",
                status=503,
            ) from error
        seconds = time.monotonic() - started
        return Said(
            "".join(texts),
            usage.get("prompt_tokens", 0),
            usage.get("completion_tokens", 0),
            first or seconds,
            seconds,
        )


def _chunks(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """The data of server-sent events. Raises ApplicationError for an error among them."""
    for line in lines:
        data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
        if not data or data == "[DONE]":
            continue
        chunk = json.loads(data)
        if "error" in chunk:
            raise _refused(500, data)
        yield chunk


def _refused(status: int, text: str) -> ApplicationError:
    try:
        message = str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = text[:300]
    return ApplicationError(f"{status}: {message}", code="refused", status=status)
