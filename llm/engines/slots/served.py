"""A model in memory: requests in, events out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm.engines.base import (
    Delta,
    Embeddings,
    GenerationRequest,
    Grammar,
    Listener,
    ModelSource,
    Occupancy,
)
from llm.engines.grammar import GrammarCompiler, Matcher
from llm.engines.slots.adapters import AdapterShelf
from llm.engines.slots.answer import Answer, Ticket
from llm.engines.slots.batcher import Batcher
from llm.engines.slots.embedding import Embedder, unloaded
from llm.engines.slots.lookup import Lookup
from llm.engines.slots.options import Options
from llm.engines.slots.prompts import Prompts
from llm.engines.slots.sampler import Chooser
from llm.engines.slots.text import TokenTexts
from mlops.exceptions import ApplicationError


@dataclass(slots=True, eq=False)
class Generation:
    """What a model that generates has beside its tokenizer."""

    batcher: Batcher
    texts: TokenTexts
    shelf: AdapterShelf
    cache: Any
    ends: frozenset[int]
    # None where the tokenizer is too slow for them.
    grammars: GrammarCompiler | None


class ServedModel:
    """See `llm.engines.base.LoadedModel`."""

    def __init__(
        self,
        source: ModelSource,
        options: Options,
        *,
        device: str,
        context_length: int,
        vocabulary: int,
        weight_bytes: int,
        tool_format: str,
        prompts: Prompts,
        embedder: Embedder,
        generation: Generation | None,
    ) -> None:
        self.source, self.device = source, device
        self.context_length, self.tool_format = context_length, tool_format
        self._options, self._weight_bytes = options, weight_bytes
        self._prompts, self._embedder, self._vocabulary = prompts, embedder, vocabulary
        self._generation = generation
        self._closed = False

    @property
    def memory_bytes(self) -> int:
        """Weights, cache and adapters, as they are now."""
        generation = self._generation
        if self._closed:
            return 0
        if generation is None:
            return self._weight_bytes
        return self._weight_bytes + generation.cache.bytes + generation.shelf.bytes

    @property
    def occupancy(self) -> Occupancy:
        generation = self._generation
        return Occupancy() if generation is None else generation.batcher.occupancy

    def submit(self, request: GenerationRequest, listener: Listener) -> None:
        generation = self._generation
        if self._closed:
            raise unloaded()
        if generation is None:
            raise ApplicationError(
                f"The model '{self.source.name}' makes embeddings, no text.",
                code="model_not_generative",
                param="model",
            )
        tokens, text = self._prompts.read(request)
        sampling = request.sampling
        self._check_tokens(tokens, "prompt")
        self._check_tokens(sampling.logit_bias, "logit_bias")
        matcher = self._matcher(generation, sampling.grammar)
        adapter = None
        if request.adapter is not None:
            adapter = generation.shelf.take(request.adapter)
        room = self.context_length - len(tokens)
        limit = room if sampling.max_tokens is None else min(sampling.max_tokens, room)
        ticket = Ticket(request, listener, tokens, adapter)
        for index in range(request.n):
            own = matcher if matcher is None or index == request.n - 1 else matcher.copy()
            answer = Answer(
                ticket,
                index,
                chooser=Chooser(sampling, index=index, prompt=tokens, limit=limit, matcher=own),
                texts=generation.texts,
                ends=generation.ends,
                lookup=Lookup(self._options.prompt_lookup) if self._options.prompt_lookup else None,
            )
            ticket.answers.append(answer)
            if request.echo:
                ticket.events.append(Delta(index, text))
            if limit == 0:
                answer.finish("length")
        generation.batcher.submit(ticket)

    def _check_tokens(self, tokens: Collection[int], param: str) -> None:
        """On a GPU a token that does not exist would bring down the process."""
        if tokens and not 0 <= min(tokens) <= max(tokens) < self._vocabulary:
            raise ApplicationError(
                f"The model's tokens are 0 to {self._vocabulary - 1}.",
                code="invalid_token",
                param=param,
            )

    @staticmethod
    def _matcher(generation: Generation, grammar: Grammar | None) -> Matcher | None:
        if grammar is None:
            return None
        if generation.grammars is None:
            raise ApplicationError(
                "Only models with a fast tokenizer (tokenizer.json) can follow a grammar.",
                code="invalid_grammar",
                param="response_format",
            )
        return generation.grammars.compile(grammar)

    def cancel(self, request_id: str) -> None:
        if self._generation is not None:
            self._generation.batcher.cancel(request_id)

    def render(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()
    ) -> str:
        return self._prompts.render(messages, tools)

    def count(self, text: str) -> int:
        return len(self._prompts.tokens(text, special=False))

    def embed(self, texts: Sequence[str | Sequence[int]]) -> Embeddings:
        read = [
            self._prompts.tokens(text, special=True) if isinstance(text, str) else list(text)
            for text in texts
        ]
        for tokens in read:
            self._check_tokens(tokens, "input")
        return self._embedder.embed(read)

    def close(self) -> None:
        self._closed = True
        generation, self._generation = self._generation, None
        if generation is not None:
            generation.batcher.close()
        self._embedder.close()
