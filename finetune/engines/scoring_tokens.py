"""Rows as tokens: what a model is given, and what it should say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """Token ids of a prompt and of the answer to it, with the token that ends it."""

    prompt: list[int]
    answer: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


class RowTokens:
    """Reads rows by a model's tokenizer and chat template, as serving reads requests.

    Of a conversation the last answer counts, given all before it.
    """

    def __init__(self, tokenizer: Any, *, template: str = "") -> None:
        self._tokenizer, self._template = tokenizer, template or None

    def asked(self, kind: str, row: Row) -> list[Asked]:
        """One, or of a preference two: the chosen answer's and the rejected one's.

        Raises ValueError for what the template refuses.
        """
        if kind == "text":
            return [Asked([], self._ids(row["text"], special=True))]
        if kind == "completion":
            answer = [*self._ids(row["completion"]), self._tokenizer.eos_token_id]
            return [Asked(self._ids(row["prompt"], special=True), answer)]
        tools = row.get("tools")
        if kind == "preference":
            return [self._turn(row["prompt"], row[name], tools) for name in ("chosen", "rejected")]
        return [self._turn(row["messages"][:-1], row["messages"][-1:], tools)]

    def _turn(
        self, before: Sequence[Message], answer: Sequence[Message], tools: Sequence[Any] | None
    ) -> Asked:
        prompt = self._rendered(before, tools, add_generation_prompt=True)
        whole = self._rendered([*before, *answer], tools)
        end = self._tokenizer.eos_token or ""
        if not whole.startswith(prompt):
            # A template that opens answers otherwise than it keeps them (thinking, mostly).
            said = "".join(str(message["content"]) for message in answer) + end
        else:
            said = whole[len(prompt) :]
            # What follows the end of the answer is nothing that a model says.
            if end and end in said:
                said = said[: said.rindex(end) + len(end)]
        return Asked(self._ids(prompt), self._ids(said))

    def _rendered(
        self, messages: Sequence[Message], tools: Sequence[Any] | None, **options: bool
    ) -> str:
        return self._tokenizer.apply_chat_template(
            [dict(message) for message in messages],
            tools=list(tools) if tools else None,
            chat_template=self._template,
            tokenize=False,
            **options,
        )

    def _ids(self, text: str, *, special: bool = False) -> list[int]:
        return self._tokenizer(text, add_special_tokens=special)["input_ids"]
