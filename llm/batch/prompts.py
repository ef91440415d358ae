"""A file of prompts, whatever form its lines have."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llm.batch.calls import CHAT, COMPLETIONS, EMBEDDINGS, Call, call_of
from llm.batch.lines import raw_lines
from mlops.exceptions import ApplicationError

MOST_LINE_BYTES = 64 * 1024 * 1024
ENDPOINTS = (CHAT, COMPLETIONS, EMBEDDINGS)
# By which key of an object it is known what is asked.
FORMS = {"messages": CHAT, "prompt": COMPLETIONS, "input": EMBEDDINGS}


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds for every line that doesn't say otherwise.

    `chat`: texts and prompts are a user's message, after `system` if there is one, rather than
    the beginning of what is to be written on.
    """

    model: str
    chat: bool = False
    system: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A line: `index` from 0; its id is its own, or made of its place and content."""

    index: int
    custom_id: str
    raw: bytes

    def call(self, defaults: Defaults) -> Call:
        """Raises ApplicationError for a line that is no request."""
        endpoint, body = _request(_parsed(self.raw), defaults)
        given = {name: value for name, value in body.items() if name != "custom_id"}
        options = {} if endpoint == EMBEDDINGS else dict(defaults.options)
        if endpoint == COMPLETIONS and "response_format" in options:
            wanted = options.pop("response_format")
            options["structured_outputs"] = {"json": wanted["json_schema"]["schema"]}
        return call_of(self.index, endpoint, {**options, **given, "model": defaults.model})


def read_prompts(path: Path) -> Iterator[Prompt]:
    """Lines that aren't empty, one at a time."""
    for index, line in enumerate(raw_lines(path, most_bytes=MOST_LINE_BYTES)):
        raw = line.raw.removeprefix(b"\xef\xbb\xbf").strip()
        yield Prompt(index, _custom_id(index, raw), raw)


def _custom_id(index: int, raw: bytes) -> str:
    """Without one of its own: the place, and what stands there, so that a changed line is new."""
    try:
        own = _parsed(raw).get("custom_id")
    except (ApplicationError, AttributeError):
        own = None
    return own if isinstance(own, str) and own else f"{index}-{hashlib.sha256(raw).hexdigest()[:8]}"


def _parsed(raw: bytes) -> Any:
    """An object, or a text: a line that begins as JSON must be JSON."""
    try:
        text = raw.decode()
        return json.loads(text) if text[:1] in ("{", '"') else text
    except ValueError as error:
        raise ApplicationError(f"This line is not valid JSON: {error}", code="bad_line") from error


def _request(line: Any, defaults: Defaults) -> tuple[str, dict[str, Any]]:
    if isinstance(line, str):
        line = {"prompt": line}
    if isinstance(line.get("body"), dict):
        url = line.get("url", CHAT)
        if url not in ENDPOINTS:
            raise ApplicationError(f"url: one of {', '.join(ENDPOINTS)}.", code="bad_line")
        return url, line["body"]
    endpoint = next((FORMS[name] for name in FORMS if name in line), None)
    if endpoint is None:
        raise ApplicationError(f"This line has none of body, {', '.join(FORMS)}.", code="bad_line")
    if endpoint == COMPLETIONS and defaults.chat:
        rest = {name: value for name, value in line.items() if name != "prompt"}
        return CHAT, {**rest, "messages": _messages(line["prompt"], defaults.system)}
    return endpoint, line


def _messages(text: Any, system: str) -> list[dict[str, Any]]:
    asked = {"role": "user", "content": text}
    return [{"role": "system", "content": system}, asked] if system else [asked]
