"""A small library of documents that were read, and an embedding engine that needs no weights."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from llm.engines.base import (
    Delta,
    Embeddings,
    Ended,
    Finished,
    GenerationRequest,
    Listener,
    ModelSource,
    Usage,
)
from llm.retrieval.terms import terms
from mlops.exceptions import ApplicationError, EngineUnavailable
from ocr.models import Document, PageResult
from tests.factories import DocumentFactory, OcrJobFactory, PageResultFactory

LEASE = [
    "Lease of the reading room",
    "The rent is 1,250,000 won a month.",
    "A tenant who pays late owes a penalty of two percent.",
]
MINUTES = ["도서관 회의록", "내년 예산은 3억 원으로 정했다.", "다음 회의는 도서관에서 열린다."]
WEATHER = ["Rain is expected over the harbour.", "The ferry will not sail."]


def lines_of(texts: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "text": text,
            "confidence": 0.9,
            "polygon": [[10, y], [300, y], [300, y + 20], [10, y + 20]],
        }
        for y, text in zip(range(10, 10_000, 30), texts, strict=False)
    ]


def read_document(texts: Sequence[str], **document: Any) -> PageResult:
    """A document of one page, read; with `document=` an existing one is read again."""
    given = document.pop("document", None)
    job = OcrJobFactory(document=given or DocumentFactory(**document), status="succeeded")
    return PageResultFactory(job=job, lines=lines_of(texts), width=320, height=400)


def document_of(result: PageResult) -> Document:
    return result.job.document


class HashingEngine:
    """Vectors that are near where texts share words; `words` of meaning the same count as one."""

    tasks: ClassVar[frozenset[str]] = frozenset({"embeddings"})
    device = "cpu hashing"

    def __init__(self, *, dimension: int = 512, alike: Mapping[str, str] | None = None) -> None:
        self.dimension, self.alike = dimension, alike or {}

    def load(self, source: ModelSource) -> HashingModel:
        if source.path == "missing":
            raise EngineUnavailable("The folder 'missing' is not there.")
        return HashingModel(source, self.dimension, self.alike)


class HashingModel:
    device = "cpu hashing"
    context_length = 64
    memory_bytes = 1
    tool_format = ""

    def __init__(self, source: ModelSource, dimension: int, alike: Mapping[str, str]) -> None:
        self.source, self.dimension, self.alike = source, dimension, alike

    def count(self, text: str) -> int:
        return len(text.split())

    def embed(self, texts: Sequence[str | Sequence[int]]) -> Embeddings:
        if any(self.count(str(text)) > self.context_length for text in texts):
            raise ApplicationError("The text is too long.", code="context_length_exceeded")
        return Embeddings([self._vector(str(text)) for text in texts], len(texts))

    def _vector(self, text: str) -> list[float]:
        found = [0.0] * self.dimension
        for term in terms(text):
            digest = hashlib.sha256(self.alike.get(term, term).encode()).digest()
            found[int.from_bytes(digest[:4], "big") % self.dimension] += 1
        length = math.hypot(*found) or 1.0
        return [value / length for value in found]

    def submit(self, request: GenerationRequest, listener: Listener) -> None:
        listener(Finished(0, "stop"))
        listener(Ended(Usage()))

    def cancel(self, request_id: str) -> None:
        """Nothing runs."""

    def render(self, messages: Sequence[Mapping[str, Any]], tools: Any = ()) -> str:
        raise ApplicationError("It has no chat template.", code="no_chat_template")

    def close(self) -> None:
        """Nothing is held."""


class ScriptedEngine:
    """A text model that says what it is told to.

    Asked to correct lines it replaces them by `fixes`, and gives no whole answer for more than
    `most` lines at once. Anything else it answers with `answer`, word by word.
    """

    tasks: ClassVar[frozenset[str]] = frozenset({"text-generation"})
    device = "cpu scripted"

    def __init__(
        self, *, fixes: Mapping[str, str] | None = None, most: int = 100, answer: str = ""
    ) -> None:
        self.fixes, self.most, self.answer = fixes or {}, most, answer

    def load(self, source: ModelSource) -> ScriptedModel:
        return ScriptedModel(source, self)


class ScriptedModel:
    device = "cpu scripted"
    context_length = 4096
    memory_bytes = 1
    tool_format = ""

    def __init__(self, source: ModelSource, engine: ScriptedEngine) -> None:
        self.source, self.engine = source, engine
        # What it was asked, in the order of asking.
        self.prompts: list[str] = []

    def submit(self, request: GenerationRequest, listener: Listener) -> None:
        assert request.messages is not None
        prompt = request.messages[-1]["content"]
        self.prompts.append(prompt)
        said = self._said(prompt, request)
        for word in re.findall(r"\s*\S+", said):
            listener(Delta(0, word))
        listener(Finished(0, "stop"))
        listener(Ended(Usage(prompt=self.count(prompt), completion=self.count(said))))

    def _said(self, prompt: str, request: GenerationRequest) -> str:
        if request.sampling.grammar is None:
            return self.engine.answer
        lines = json.loads(prompt.rpartition("\n\n")[2])
        schema = json.loads(request.sampling.grammar.text)
        assert schema["minItems"] == schema["maxItems"] == len(lines)
        if len(lines) > self.engine.most:
            return '["'
        return json.dumps([self.engine.fixes.get(line, line) for line in lines])

    def cancel(self, request_id: str) -> None:
        """It has answered already."""

    def render(self, messages: Sequence[Mapping[str, Any]], tools: Any = ()) -> str:
        return "\n".join(message["content"] for message in messages)

    def count(self, text: str) -> int:
        return len(text.split())

    def embed(self, texts: Sequence[str | Sequence[int]]) -> Embeddings:
        raise ApplicationError("It makes no embeddings.", code="model_not_supported")

    def close(self) -> None:
        """Nothing is held."""
