"""The calls of tools in an answer's text, read as serving reads them."""

from __future__ import annotations

import json
from typing import Any

from llm.tools import CallArguments, CallStart, Text, ToolCallReader


def read_calls(text: str, tool_format: str) -> tuple[str, list[dict[str, Any]]]:
    """What is said beside the calls, and {"name", "arguments"} of each; arguments are None where
    they are no JSON object. `tool_format` is the loaded model's."""
    reader = ToolCallReader(tool_format)
    said: list[str] = []
    names: list[str] = []
    written: list[str] = []
    for piece in [*reader.feed(text), *reader.finish()]:
        match piece:
            case Text():
                said.append(piece.text)
            case CallStart():
                names.append(piece.name)
                written.append("")
            case CallArguments():
                written[piece.index] += piece.fragment
    calls = [
        {"name": name, "arguments": _object(arguments)}
        for name, arguments in zip(names, written, strict=True)
    ]
    return "".join(said), calls


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
