"""Answers from passages: what the model is asked, and which of its citations exist."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from llm.retrieval.searching import Hit
from llm.retrieval.terms import size

# Tokens of passages, about; with less context a model is given as many as go into half of it.
PASSAGE_TOKENS = 3000
NOTHING_FOUND = "Nothing about this was found in the documents."

_TASK = """\
Answer the question from the passages below alone. After each statement name the passages that it \
comes from by their numbers in square brackets, as in [1] or [2][3]. If the passages do not answer \
the question, say so. Answer in the language of the question."""
# A citation, with the space before it, which goes along where the citation does.
_CITATION = re.compile(r"[ \t]*\[\s*\d+(?:\s*[,;]\s*\d+)*\s*\]")
# What may yet become one.
_UNFINISHED = re.compile(r"[ \t]*(?:\[[\s\d,;]{0,30})?$")


def passages_for(hits: Sequence[Hit], context_length: int) -> list[Hit]:
    """As many of the best hits as the model is to read; `context_length` 0: not known."""
    room = min(PASSAGE_TOKENS, context_length // 2) if context_length else PASSAGE_TOKENS
    kept: list[Hit] = []
    for hit in hits:
        room -= size(hit.chunk.text)
        if kept and room < 0:
            break
        kept.append(hit)
    return kept


def answer_messages(question: str, hits: Sequence[Hit]) -> list[dict[str, str]]:
    """The conversation to send; the passages are numbered from 1 in the order of `hits`."""
    parts = [_TASK]
    for number, hit in enumerate(hits, 1):
        chunk = hit.chunk
        heading = f"{chunk.heading}\n" if chunk.heading else ""
        place = f"{chunk.document.name}, page {chunk.page.number}"
        parts.append(f"[{number}] {place}\n{heading}{chunk.text}")
    parts.append(f"Question: {question}")
    return [{"role": "user", "content": "\n\n".join(parts)}]


class CitedText:
    """A streamed answer without the citations of passages that don't exist.

    `cited` are the numbers named so far, in the order of their first naming.
    """

    def __init__(self, passages: int) -> None:
        self.cited: list[int] = []
        self._passages = passages
        self._held = ""

    def feed(self, text: str) -> str:
        """What of the text so far can be shown; what may become a citation is held back."""
        text = self._held + text
        end = _UNFINISHED.search(text)
        assert end is not None
        self._held = text[end.start() :]
        return self._checked(text[: end.start()])

    def finish(self) -> str:
        """The rest."""
        held, self._held = self._held, ""
        return self._checked(held)

    def _checked(self, text: str) -> str:
        return _CITATION.sub(self._existing, text)

    def _existing(self, match: re.Match[str]) -> str:
        named = [int(number) for number in re.findall(r"\d+", match[0])]
        kept = [number for number in dict.fromkeys(named) if 1 <= number <= self._passages]
        self.cited += [number for number in kept if number not in self.cited]
        if not kept:
            return ""
        space = match[0][: len(match[0]) - len(match[0].lstrip())]
        return space + "".join(f"[{number}]" for number in kept)


def answer_json(
    *,
    question: str,
    text: str,
    model: str,
    passages: Sequence[dict[str, Any]],
    cited: Sequence[int],
    search: dict[str, Any],
    usage: dict[str, int] | None,
) -> dict[str, Any]:
    """`citations` are the passages named in `text`, each with its number, page and box."""
    return {
        "object": "answer",
        "question": question,
        "answer": text,
        "model": model,
        "citations": [{"number": number, **passages[number - 1]} for number in cited],
        "passages": list(passages),
        "search": search,
        "usage": usage,
    }
