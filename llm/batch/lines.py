"""The lines of a batch's file: found one by one, each judged before anything runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops.exceptions import ApplicationError

MOST_ID = 512


@dataclass(frozen=True, slots=True)
class RawLine:
    """A line that isn't empty: its number from 1, where it begins, and its bytes."""

    number: int
    offset: int
    raw: bytes


def raw_lines(path: Path, *, most_bytes: int) -> Iterator[RawLine]:
    """Raises ApplicationError for a line longer than `most_bytes`."""
    number = offset = 0
    with path.open("rb") as file:
        while raw := file.readline(most_bytes + 1):
            number += 1
            if len(raw) > most_bytes:
                raise ApplicationError(
                    f"Line {number} is longer than {most_bytes} bytes.", code="line_too_long"
                )
            if raw.strip(b"\xef\xbb\xbf \t\r\n"):
                yield RawLine(number, offset, raw)
            offset += len(raw)


def read_line(path: Path, *, offset: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(length)


def odd(text: str) -> bool:
    """Whether no database would keep it: it has a null character, or half of a surrogate pair."""
    return "\0" in text or any("\ud800" <= char <= "\udfff" for char in text)


def parse_line(raw: bytes, *, endpoint: str) -> tuple[str, dict[str, Any]]:
    """(custom_id, body) of a request. Raises ApplicationError for one that isn't."""
    try:
        line = json.loads(raw.decode("utf-8-sig"))
        if b"\\ud" in raw.lower():
            # Half of a surrogate pair may be escaped, and is no text that could be tokenised.
            json.dumps(line, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ApplicationError(
            f"This line is not valid JSON: {error}", code="invalid_json_line"
        ) from error
    if not isinstance(line, dict):
        raise ApplicationError("This line is not a JSON object.", code="invalid_json_line")
    custom_id = line.get("custom_id")
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= MOST_ID or odd(custom_id):
        raise ApplicationError(
            f"custom_id: a text of 1 to {MOST_ID} characters.",
            code="missing_required_parameter" if custom_id is None else "invalid_value",
            param="custom_id",
        )
    if line.get("method") != "POST":
        raise ApplicationError("method: POST.", code="invalid_method", param="method")
    if line.get("url") != endpoint:
        raise ApplicationError(
            f"url: {endpoint}, as the batch's endpoint.", code="mismatched_endpoint", param="url"
        )
    body = line.get("body")
    if not isinstance(body, dict):
        raise ApplicationError(
            "body: the request, as an object.", code="missing_required_parameter", param="body"
        )
    if body.get("stream"):
        raise ApplicationError(
            "stream: a batch's answers are not streamed.", code="invalid_value", param="stream"
        )
    return custom_id, body
