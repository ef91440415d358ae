"""A language model for tests: the prompt says what it answers, a word is a token.

The last message (or the prompt) is echoed word by word, unless it holds one of these:

    count 5        -> "1 2 3 4 5"
    fail 3         -> three words, then Failed
    die 3          -> three words, then the process is killed
    call NAME {..} -> a tool call, if tools were given
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import struct
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from llm.engines.base import (
    Delta,
    Embeddings,
    Ended,
    Failed,
    Finished,
    GenerationRequest,
    Listener,
    ModelSource,
    Occupancy,
    TokenLogprob,
    Usage,
)
from mlops.exceptions import ApplicationError, EngineUnavailable

DIMENSIONS = 8
# The forms of a schema that this model knows how to fill in.
VALUES = {"string": "word", "integer": 7, "number": 1.5, "boolean": True}


class FakeLanguageEngine:
    """`delay`: seconds a step; `gate`: no step is made until this file is there.

    `load_gate` is the same for loading. A source whose path says "damaged" can't be loaded.
    """

    tasks: ClassVar[frozenset[str]] = frozenset({"text-generation", "embeddings"})
    device = "cpu fake"

    def __init__(self, *, delay: float = 0.0, gate: str = "", load_gate: str = "") -> None:
        self.delay, self.gate, self.load_gate = delay, gate, load_gate
        self.loads = 0

    def load(self, source: ModelSource) -> FakeLanguageModel:
        while self.load_gate and not Path(self.load_gate).exists():
            time.sleep(0.005)
        if "damaged" in source.path:
            raise EngineUnavailable(f"{source.path} holds no readable weights. Copy it again.")
        self.loads += 1
        options = {"delay": self.delay, "gate": self.gate, **source.options}
        return FakeLanguageModel(source, **options)


class FakeLanguageModel:
    """Steps all its requests in one thread, one word each, as a batching engine does."""

    device = "cpu fake"
    tool_format = "hermes"

    def __init__(
        self, source: ModelSource, *, delay: float, gate: str, memory_bytes: int = 1000
    ) -> None:
        self.source, self.delay, self.gate = source, delay, gate
        self.memory_bytes = memory_bytes
        self.context_length = source.context_length or 1000
        self.closed = False
        self._open: dict[str, _Running] = {}
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="fake-model", daemon=True)
        self._thread.start()

    @property
    def occupancy(self) -> Occupancy:
        return Occupancy(running=len(self._open), cached_tokens=7 * len(self._open))

    def submit(self, request: GenerationRequest, listener: Listener) -> None:
        running = _Running(request, listener)
        length = running.prompt_tokens + (request.sampling.max_tokens or 0)
        if length > self.context_length:
            raise ApplicationError(
                f"This model's context is {self.context_length} tokens; the prompt has "
                f"{running.prompt_tokens}. Shorten it.",
                code="context_length_exceeded",
                param="messages",
            )
        grammar = request.sampling.grammar
        if grammar is not None and grammar.kind == "json_schema":
            _check_schema(json.loads(grammar.text))
        with self._changed:
            self._open[request.id] = running
            self._changed.notify()

    def cancel(self, request_id: str) -> None:
        running = self._open.get(request_id)
        if running is not None:
            running.cancelled = True

    def render(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()
    ) -> str:
        return "\n".join(f"{one['role']}: {one['content']}" for one in messages)

    def count(self, text: str) -> int:
        return len(text.split())

    def embed(self, texts: Sequence[str | Sequence[int]]) -> Embeddings:
        plain = [text if isinstance(text, str) else " ".join(map(str, text)) for text in texts]
        if any(self.count(text) > self.context_length for text in plain):
            raise ApplicationError(
                "A text is too long.", code="context_length_exceeded", param="input"
            )
        return Embeddings([vector(text) for text in plain], sum(map(self.count, plain)))

    def close(self) -> None:
        with self._changed:
            self.closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._open and not self.closed:
                    self._changed.wait()
                running = list(self._open.values())
                closed = self.closed
            if closed:
                for one in running:
                    one.listener(Failed("The model was unloaded.", "model_unloaded", None, 503))
                return
            while self.gate and not Path(self.gate).exists():
                time.sleep(0.002)
            time.sleep(self.delay)
            for one in running:
                if not one.step():
                    del self._open[one.request.id]


class _Running:
    """One request and how far it is."""

    def __init__(self, request: GenerationRequest, listener: Listener) -> None:
        self.request, self.listener = request, listener
        self.cancelled = False
        self.completion_tokens = 0
        self.text = _asked(request)
        self.prompt_tokens = len(_prompt(request).split())
        self._steps = self._events()

    def step(self) -> bool:
        """False after the last event."""
        return next(self._steps, False)

    def _events(self) -> Iterator[bool]:
        n = self.request.n
        answers = [self._words(index) for index in range(n)]
        limit = self.request.sampling.max_tokens or 10_000
        written = [""] * n
        open_ones = set(range(n))
        for number in range(limit):
            for index in sorted(open_ones):
                word = next(answers[index], None)
                if word is None or self._stopped(index, written[index] + word):
                    open_ones.discard(index)
                    continue
                self._say(index, word)
                written[index] += word
                if number + 1 == limit:
                    self.listener(Finished(index, "length"))
                    open_ones.discard(index)
            if not open_ones:
                break
            if self.cancelled:
                for index in open_ones:
                    self.listener(Finished(index, "cancelled"))
                break
            yield True
        if "fail" in self.text.split():
            self.listener(Failed("The model's fault.", "engine_failed", None, 500))
            return
        self.listener(Ended(Usage(self.prompt_tokens, self.completion_tokens)))

    def _say(self, index: int, word: str) -> None:
        self.completion_tokens += 1
        wanted, logprobs = self.request.sampling.logprobs, ()
        if wanted is not None:
            top = tuple((f"{word}{n}", f"{word}{n}".encode(), -1.0 - n) for n in range(wanted))
            logprobs = (TokenLogprob(word, word.encode(), -0.5, top),)
        self.listener(Delta(index, word, logprobs))

    def _stopped(self, index: int, text: str) -> bool:
        for stop in self.request.sampling.stop:
            if stop in text:
                self.listener(Finished(index, "stop", stop))
                return True
        return False

    def _words(self, index: int) -> Iterator[str]:
        grammar = self.request.sampling.grammar
        if grammar is not None and grammar.kind in ("json_object", "json_schema"):
            schema = json.loads(grammar.text) if grammar.text else {"type": "object"}
            yield from _pieces(json.dumps(_example(schema)))
        elif self.request.tools and (match := re.search(r"call (\w+) (\{.*\})", self.text)):
            call = {"name": match[1], "arguments": json.loads(match[2])}
            yield from _pieces(f"<tool_call>\n{json.dumps(call)}\n</tool_call>")
        elif match := re.search(r"(count|fail|die) (\d+)", self.text):
            for number in range(1, int(match[2]) + 1):
                yield f"{number} " if number < int(match[2]) else str(number)
            if match[1] == "die":
                os.kill(os.getpid(), signal.SIGKILL)
        else:
            named = self.request.adapter
            yield from _pieces(f"{named.name}: {self.text}" if named else self.text)
        self.listener(Finished(index, "stop"))


def vector(text: str) -> list[float]:
    """Of unit length, and the same for the same text."""
    digest = hashlib.sha256(text.encode()).digest()
    values = [byte - 127.5 for byte in digest[:DIMENSIONS]]
    length = sum(value * value for value in values) ** 0.5
    # As float32 holds it.
    return list(
        struct.unpack(
            f"<{DIMENSIONS}f", struct.pack(f"<{DIMENSIONS}f", *[v / length for v in values])
        )
    )


def _prompt(request: GenerationRequest) -> str:
    if request.messages is not None:
        return "\n".join(str(message.get("content") or "") for message in request.messages)
    if isinstance(request.prompt, str):
        return request.prompt
    return " ".join(map(str, request.prompt or ()))


def _asked(request: GenerationRequest) -> str:
    if request.messages is not None:
        return str(request.messages[-1].get("content") or "")
    return _prompt(request)


def _pieces(text: str) -> list[str]:
    return re.findall(r"\S+\s*", text)


def _check_schema(schema: Any) -> None:
    if not isinstance(schema, dict) or schema.get("type") not in (None, *VALUES, "object", "array"):
        raise ApplicationError(
            f"The schema can't be followed: {json.dumps(schema)[:80]}.",
            code="invalid_grammar",
            param="response_format",
        )
    for child in schema.get("properties", {}).values():
        _check_schema(child)


def _example(schema: Mapping[str, Any]) -> Any:
    if schema.get("type") == "object":
        return {name: _example(child) for name, child in schema.get("properties", {}).items()}
    if schema.get("type") == "array":
        return [_example(schema.get("items", {}))]
    return VALUES.get(str(schema.get("type")))
