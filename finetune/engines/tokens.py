"""Rows as tokens, and which of them carry loss."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from finetune.engines.base import TrainingFailed
from ocr.engines.torch_library import import_torch

import_torch()
templates = importlib.import_module("transformers.utils.chat_template_utils")

Row = Mapping[str, Any]
Message = Mapping[str, Any]
# Start and end of a piece of text, in characters.
Span = tuple[int, int]

_MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")
IGNORED = -100


@dataclass(frozen=True, slots=True)
class Example:
    """A row as it is trained on. `text` as the template makes it, `spans` of it carry loss.

    `ends`: where in the text each token ends. `length`: tokens before anything was cut off.
    """

    text: str
    spans: list[Span]
    ids: list[int]
    loss: list[bool]
    ends: list[int]
    length: int

    @property
    def labels(self) -> list[int]:
        return [
            token if learned else IGNORED
            for token, learned in zip(self.ids, self.loss, strict=True)
        ]

    @property
    def cut(self) -> bool:
        return self.length > len(self.ids)


@dataclass(frozen=True, slots=True)
class Pair:
    """A row of preferences: what both answers begin with, and each answer's tokens."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    examples: tuple[Example, Example]


class RowTokens:
    """Makes tokens of rows. `answers_only`: the assistant's turns carry loss, each of them.

    Where the template marks them ({% generation %}), by its marks; else by what it makes of the
    conversation before and after each turn. Raises TrainingFailed where neither can tell.
    """

    def __init__(self, tokenizer: Any, *, max_length: int, answers_only: bool = True) -> None:
        self._tokenizer = tokenizer
        self._template: str = tokenizer.chat_template or ""
        self._marked = bool(_MARK.search(self._template))
        self.max_length, self._answers_only = max_length, answers_only
        self._end: int = tokenizer.eos_token_id

    def examples(self, row: Row) -> Iterator[Example]:
        """Of a row of kind chat, completion or text; none where nothing is left to learn."""
        if "messages" in row:
            found = iter([self.chat(row)])
        elif "completion" in row:
            found = iter([self.completion(row)])
        else:
            found = self.text(row["text"])
        return (example for example in found if any(example.loss))

    def chat(self, row: Row) -> Example:
        messages, tools = row["messages"], row.get("tools")
        if self._marked and self._answers_only:
            text, spans = self._rendered_with_marks(messages, tools)
        else:
            text = self.render(messages, tools)
            spans = self._spans(messages, tools, text) if self._answers_only else [(0, len(text))]
        return self._example(text, spans, special=False)

    def completion(self, row: Row) -> Example:
        text = row["prompt"] + row["completion"]
        start = len(row["prompt"]) if self._answers_only else 0
        return self._example(text, [(start, len(text))], special=True, ended=True)

    def text(self, text: str) -> Iterator[Example]:
        """As many as it takes: of text that is read on, nothing is cut off."""
        whole = self._example(text, [(0, len(text))], special=True, ended=True, whole=True)
        size = self.max_length
        for start in range(0, len(whole.ids), size):
            part = slice(start, start + size)
            ids, ends = whole.ids[part], whole.ends[part]
            begin = whole.ends[start - 1] if start else 0
            piece = text[begin : ends[-1]]
            yield Example(
                piece,
                [(0, len(piece))],
                ids,
                whole.loss[part],
                [end - begin for end in ends],
                len(ids),
            )

    def pair(self, row: Row) -> Pair:
        tools = row.get("tools")
        asked = self.render(row["prompt"], tools, prompt=True)
        answers = []
        for name in ("chosen", "rejected"):
            text = self.render([*row["prompt"], *row[name]], tools)
            if text.rstrip().endswith(self._tokenizer.eos_token):
                text = text.rstrip()
            start = _shared(asked, text)
            answers.append(self._example(text, [(start, len(text))], special=False, whole=True))
        chosen, rejected = answers
        begin = min(_first(chosen), _first(rejected))
        while begin and chosen.ids[:begin] != rejected.ids[:begin]:
            begin -= 1
        most = self.max_length
        cut = [
            Example(
                one.text, one.spans, one.ids[:most], one.loss[:most], one.ends[:most], one.length
            )
            for one in answers
        ]
        return Pair(chosen.ids[:begin], cut[0].ids[begin:], cut[1].ids[begin:], (cut[0], cut[1]))

    def render(
        self, messages: Sequence[Message], tools: Any = None, *, prompt: bool = False
    ) -> str:
        """What the template makes of a conversation; `prompt`: up to where an answer begins."""
        return self._render(messages, tools, prompt=prompt, marks=False)[0]

    def tokens(self, text: str, *, special: bool = False) -> list[int]:
        return self._tokenizer(text, add_special_tokens=special)["input_ids"]

    def _render(
        self, messages: Sequence[Message], tools: Any, *, prompt: bool, marks: bool
    ) -> tuple[str, list[Span]]:
        if not self._template:
            raise TrainingFailed(
                "The model has no chat template to write conversations with. Give it one on its "
                "page, or train on rows of prompt and completion.",
                code="bad_model",
            )
        try:
            made = templates.render_jinja_template(
                [[dict(message) for message in messages]],
                tools=tools or None,
                chat_template=self._template,
                add_generation_prompt=prompt,
                return_assistant_tokens_mask=marks,
                **self._tokenizer.special_tokens_map,
            )
        except (TemplateError, ValueError, TypeError, KeyError) as error:
            first = str(messages[0].get("content", ""))[:80] if messages else ""
            raise TrainingFailed(
                f"The model's chat template refuses the conversation that begins with {first!r}: "
                f"{error}. Drop such rows, or give the model another template.",
                code="bad_rows",
            ) from error
        return made[0][0], made[1][0] if marks else []

    def _rendered_with_marks(
        self, messages: Sequence[Message], tools: Any
    ) -> tuple[str, list[Span]]:
        text, marked = self._render(messages, tools, prompt=False, marks=True)
        spans = [(start, end) for start, end in marked if end > start]
        turns = [message for message in messages if message["role"] == "assistant"]
        if len(spans) == len(turns):
            weighed = zip(spans, turns, strict=True)
            spans = [span for span, turn in weighed if turn.get("weight") != 0]
        return text, spans

    def _spans(self, messages: Sequence[Message], tools: Any, text: str) -> list[Span]:
        """Of each turn of the assistant: from where the template lets it begin to its end."""
        found = []
        for number, message in enumerate(messages):
            if message["role"] != "assistant" or message.get("weight") == 0:
                continue
            before = self.render(messages[:number], tools)
            asked = self.render(messages[:number], tools, prompt=True)
            # Some templates put more into the prompt than stands in front of an answer later.
            start = _shared(asked, text)
            if not text.startswith(before) or start < len(before):
                raise self._untellable(number)
            after = self.render(messages[: number + 1], tools)
            if text.startswith(after):
                end = len(after)
            elif message["content"] and text.startswith(message["content"], start):
                end = start + len(message["content"])
            else:
                raise self._untellable(number)
            found.append((start, start + len(self._without_tail(text[start:end]))))
        return found

    def _without_tail(self, turn: str) -> str:
        """Up to the mark that ends it: line breaks behind it are the template's."""
        bare = turn.rstrip()
        return bare if bare.endswith(self._tokenizer.eos_token) else turn

    def _untellable(self, number: int) -> TrainingFailed:
        return TrainingFailed(
            f"The chat template writes message {number + 1} of a conversation differently once "
            "others follow, so that its answer can't be told from the rest. Put "
            "{% generation %} … {% endgeneration %} around answers in the template, or turn "
            "'answers_only' off.",
            code="bad_model",
        )

    def _example(
        self,
        text: str,
        spans: list[Span],
        *,
        special: bool,
        ended: bool = False,
        whole: bool = False,
    ) -> Example:
        ids, places = self._read(text, spans, special)
        loss = _inside(places, spans)
        ends = [end for _, end in places]
        for number in range(1, len(ids)):
            # Where a turn ends is learned with it, also where a template's mark leaves that out.
            if ids[number] == self._end and loss[number - 1]:
                loss[number] = True
        if ended and (not ids or ids[-1] != self._end):
            ids.append(self._end)
            loss.append(True)
            ends.append(len(text))
        most = len(ids) if whole else self.max_length
        return Example(text, spans, ids[:most], loss[:most], ends[:most], len(ids))

    def _read(self, text: str, spans: list[Span], special: bool) -> tuple[list[int], list[Span]]:
        """Tokens with their places; where one would reach into a span, the parts apart.

        A served model is given the prompt by itself, and begins its answer with a token of its own.
        """
        ids, places = self._pieces([text], special)
        torn = [start for start, _ in spans if any(a < start < b for a, b in places)]
        if not torn:
            return ids, places
        ends = [*torn, len(text)]
        apart = self._pieces([text[a:b] for a, b in zip([0, *torn], ends, strict=True)], special)
        # Some tokenizers put a space in front of whatever they are given: not the same text, then.
        same = self._tokenizer.decode(apart[0]) == self._tokenizer.decode(ids)
        return apart if same else (ids, places)

    def _pieces(self, texts: list[str], special: bool) -> tuple[list[int], list[Span]]:
        ids: list[int] = []
        places: list[Span] = []
        begin = 0
        for number, text in enumerate(texts):
            read = self._tokenizer(
                text, add_special_tokens=special and not number, return_offsets_mapping=True
            )
            ids += read["input_ids"]
            places += [(begin + start, begin + end) for start, end in read["offset_mapping"]]
            begin += len(text)
        return ids, places


def _inside(places: Sequence[Span], spans: Sequence[Span]) -> list[bool]:
    """Of each token whether something of it lies in one of the spans, which stand in order."""
    found, at = [], 0
    for start, end in places:
        while at < len(spans) and start >= spans[at][1]:
            at += 1
        # Tokens of no width are special ones, put in front by the tokenizer.
        found.append(at < len(spans) and end > spans[at][0] and end > start)
    return found


def _first(example: Example) -> int:
    """The first token that carries loss."""
    return example.loss.index(True) if True in example.loss else len(example.ids)


def _shared(one: str, other: str) -> int:
    """Characters that both begin with."""
    if other.startswith(one):
        return len(one)
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
