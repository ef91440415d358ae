"""Tool calls: the forms that models write them in, grammars that force them, and their reader."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm.engines.base import Grammar

HERMES, LLAMA3, MISTRAL = "hermes", "llama3", "mistral"
OPENING = {HERMES: "<tool_call>", LLAMA3: "<|python_tag|>", MISTRAL: "[TOOL_CALLS]"}
CLOSING = "</tool_call>"
# What each form calls the arguments.
ARGUMENTS = {HERMES: "arguments", LLAMA3: "parameters", MISTRAL: "arguments"}


def detect_format(chat_template: str) -> str:
    """The form that a template's models answer in: hermes, llama3, mistral; "" if it has none."""
    if "tools" not in chat_template:
        return ""
    if OPENING[HERMES] in chat_template:
        # Some write XML inside of the same mark, which is another form.
        return "" if "<function=" in chat_template else HERMES
    if OPENING[MISTRAL] in chat_template:
        return MISTRAL
    if '"parameters"' in chat_template and "ipython" in chat_template:
        return LLAMA3
    return ""


# -- forcing a call ---------------------------------------------------------------------------


def tool_grammar(
    tool_format: str, tools: Sequence[Mapping[str, Any]], choice: object, *, parallel: bool = True
) -> Grammar | None:
    """What an answer must look like under `tool_choice`; None where the model is free.

    `tools` and `choice` are OpenAI's: "required" forces a call, or several where `parallel`, of
    any tool, `{"type": "function", …}` one of that tool.
    """
    if choice in (None, "auto", "none"):
        return None
    functions = [tool["function"] for tool in tools]
    if isinstance(choice, Mapping):
        name = choice["function"]["name"]
        functions = [function for function in functions if function["name"] == name]
        parallel = False
    calls = [_call_schema(tool_format, function) for function in functions]
    if tool_format == MISTRAL:
        # Its mark is a token that no text is made of; the reader knows that calls are all there is.
        rules = ['start: "[" call (", " call)* "]"' if parallel else 'start: "[" call "]"']
    elif tool_format == LLAMA3:
        rules = ["start: call"]
    else:
        marked = f'"{OPENING[HERMES]}\\n" call "\\n{CLOSING}"'
        rules = [f'start: marked ("\\n" marked)*\nmarked: {marked}'] if parallel else []
        rules = rules or [f"start: {marked}"]
    rules.append("call: " + " | ".join(f"call_{number}" for number in range(len(calls))))
    rules += [
        f"call_{number}: %json {json.dumps(schema, ensure_ascii=False)}"
        for number, schema in enumerate(calls)
    ]
    return Grammar("lark", "\n".join(rules))


def _call_schema(tool_format: str, function: Mapping[str, Any]) -> dict[str, Any]:
    key = ARGUMENTS[tool_format or HERMES]
    parameters = {"type": "object", **(function.get("parameters") or {"properties": {}})}
    return {
        "type": "object",
        "properties": {
            "name": {"const": function["name"]},
            key: _moved(parameters, f"#/properties/{key}"),
        },
        "required": ["name", key],
        "additionalProperties": False,
    }


def _moved(schema: Any, place: str) -> Any:
    """The schema with its references counted from a root that it stands at `place` of."""
    if isinstance(schema, Mapping):
        return {
            name: place + part[1:]
            if name == "$ref" and isinstance(part, str) and part.startswith("#")
            else _moved(part, place)
            for name, part in schema.items()
        }
    if isinstance(schema, list):
        return [_moved(part, place) for part in schema]
    return schema


# -- reading calls ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Text:
    """Text that is no call."""

    text: str


@dataclass(frozen=True, slots=True)
class CallStart:
    """Call number `index` begins."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """More of the arguments of call `index`, which together are one JSON object."""

    index: int
    fragment: str


Piece = Text | CallStart | CallArguments


class ToolCallReader:
    """Tells the calls in an answer from its text, as it comes.

    What begins like a call and turns out not to be one is given out as the text that it is.
    `forced`: the answer is nothing but calls, by `tool_grammar`.
    """

    def __init__(self, tool_format: str, *, forced: bool = False) -> None:
        self._format = tool_format
        self._opening = OPENING.get(tool_format, "")
        # Without marks: calls begin at once, or a bare JSON object is one.
        self._bare = tool_format == LLAMA3 or (forced and tool_format == MISTRAL)
        self._buffer = ""
        self._inside = False
        # The mark that nothing has followed yet; given back where it turns out to be text.
        self._mark = ""
        self._begun = False
        self._call: _Call | None = None
        self.calls = 0

    def feed(self, text: str) -> list[Piece]:
        """What can be said now; the rest is held back."""
        if not self._format:
            return [Text(text)] if text else []
        self._buffer += text
        return list(_joined(self._read(last=False)))

    def finish(self) -> list[Piece]:
        """The rest, at the end of the answer."""
        return list(_joined(self._read(last=True)))

    def _read(self, *, last: bool) -> Iterable[Piece]:
        while self._buffer:
            before = self._buffer, self._inside
            yield from self._inside_call(last) if self._inside else self._outside(last)
            if (self._buffer, self._inside) == before:
                break
        if last and (self._mark or self._buffer):
            yield Text(self._mark + self._buffer)
            self._mark = self._buffer = ""

    def _outside(self, last: bool) -> Iterable[Piece]:
        if self._bare and not self._begun:
            stripped = self._buffer.lstrip()
            if not stripped:
                return
            if stripped[0] in "{[":
                self._begun = self._inside = True
                self._buffer = stripped
                return
        at = self._buffer.find(self._opening)
        if at >= 0:
            before, self._buffer = self._buffer[:at], self._buffer[at + len(self._opening) :]
            self._begun = self._inside = True
            self._mark = self._opening
            # The line break in front of a call is the form's, not the answer's.
            if before.strip():
                yield Text(before.rstrip("\n"))
            return
        keep = 0 if last else _overlap(self._buffer, self._opening)
        if self.calls and not last and not self._buffer[: len(self._buffer) - keep].strip():
            return
        cut = len(self._buffer) - keep
        if not last:
            # A line break may be the form's own, in front of a call.
            cut = len(self._buffer[:cut].rstrip("\n"))
        said, self._buffer = self._buffer[:cut], self._buffer[cut:]
        if said and not (self.calls and not said.strip()):
            self._begun = True
            yield Text(said)

    def _inside_call(self, last: bool) -> Iterable[Piece]:
        if self._call is None:
            start = re.match(r"[\s,\[]*", self._buffer)
            assert start is not None
            rest = self._buffer[start.end() :]
            if not rest and not last:
                return
            if not rest.startswith("{"):
                yield from self._leave(rest)
                return
            self._buffer = rest
            self._call = _Call(ARGUMENTS[self._format])
        call = self._call
        end = call.read(self._buffer)
        if call.name is not None:
            if not call.told:
                call.told, call.index = True, self.calls
                self.calls += 1
                yield CallStart(call.index, f"call_{uuid.uuid4().hex[:24]}", call.name)
            fragment = call.fresh(self._buffer)
            if fragment:
                yield CallArguments(call.index, fragment)
        if end is None:
            if last:
                # What was told stands, and an object that was not yet a call is text.
                rest = "" if call.told else self._mark + self._buffer
                self._inside, self._call, self._mark, self._buffer = False, None, "", ""
                if rest:
                    yield Text(rest)
            return
        if call.name is None:
            yield from self._whole(self._buffer[:end])
        self._buffer, self._call, self._mark = self._buffer[end:], None, ""

    def _whole(self, text: str) -> Iterable[Piece]:
        """A call whose name came last, or what only looks like one."""
        try:
            found = json.loads(text)
        except json.JSONDecodeError:
            found = None
        name = found.get("name") if isinstance(found, dict) else None
        if not isinstance(name, str):
            yield Text(self._mark + text)
            return
        arguments = found.get("arguments", found.get("parameters")) or {}
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments, ensure_ascii=False)
        yield CallStart(self.calls, f"call_{uuid.uuid4().hex[:24]}", name)
        yield CallArguments(self.calls, arguments)
        self.calls += 1

    def _leave(self, rest: str) -> Iterable[Piece]:
        """Behind a call, or where none came after its mark."""
        closing = CLOSING if self._format == HERMES else "]" if self._format == MISTRAL else ""
        if closing and rest.startswith(closing):
            self._inside, self._buffer = False, rest[len(closing) :]
        elif closing and closing.startswith(rest):
            self._buffer = rest
        else:
            text, self._inside, self._mark, self._buffer = self._mark + rest, False, "", ""
            yield Text(text)


class _Call:
    """One JSON object as it grows: where it ends, its name, and its arguments' text."""

    def __init__(self, key: str) -> None:
        self._head = re.compile(
            rf'\{{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"{key}"\s*:\s*(?=\{{)'
        )
        self.name: str | None = None
        self.told = False
        self.index = 0
        self._at = self._depth = self._given = 0
        self._in_string = self._escaped = False
        self._arguments_end: int | None = None

    def read(self, text: str) -> int | None:
        """Where the object ends in `text`, which begins with it; None if it goes on."""
        end = None
        if self.name is None and (head := self._head.match(text)):
            self.name, self._given = json.loads(head[1]), head.end()
        while self._at < len(text) and end is None:
            self._step(text[self._at])
            self._at += 1
            if (
                self._arguments_end is None
                and self._depth == 1
                and self._at > self._given > 0
                and text[self._at - 1] == "}"
                and not self._in_string
            ):
                self._arguments_end = self._at
            if self._depth == 0:
                end = self._at
        return end

    def fresh(self, text: str) -> str:
        """The arguments' text that has not been given out."""
        end = self._at if self._arguments_end is None else self._arguments_end
        fragment, self._given = text[self._given : end], max(self._given, end)
        return fragment

    def _step(self, character: str) -> None:
        if self._in_string:
            if self._escaped:
                self._escaped = False
            elif character == "\\":
                self._escaped = True
            elif character == '"':
                self._in_string = False
        elif character == '"':
            self._in_string = True
        elif character in "{[":
            self._depth += 1
        elif character in "}]":
            self._depth -= 1


def _overlap(text: str, mark: str) -> int:
    """How many characters at the end of `text` may be the beginning of `mark`."""
    for size in range(min(len(text), len(mark) - 1), 0, -1):
        if mark.startswith(text[-size:]):
            return size
    return 0


def _joined(pieces: Iterable[Piece]) -> Iterable[Piece]:
    """Neighbouring texts as one."""
    held: list[str] = []
    for piece in pieces:
        if isinstance(piece, Text):
            held.append(piece.text)
            continue
        if held:
            yield Text("".join(held))
            held = []
        yield piece
    if held:
        yield Text("".join(held))
