"""A request on its way, and each of its answers as it grows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from llm.engines.base import (
    Delta,
    Ended,
    Event,
    Failed,
    Finished,
    FinishReason,
    GenerationRequest,
    Listener,
    TokenLogprob,
    Usage,
)
from llm.engines.slots.cache import Slot
from llm.engines.slots.lookup import Lookup
from llm.engines.slots.sampler import Choice, Chooser
from llm.engines.slots.text import TextStream, TokenTexts


@dataclass(slots=True, eq=False)
class Ticket:
    """One request: its answers, what it has used, and the events that its listener gets next."""

    request: GenerationRequest
    listener: Listener
    prompt: list[int]
    adapter: Any = None
    answers: list[Answer] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    completion: int = 0
    cached: int = 0
    # Set once the last event has been said.
    over: bool = False

    @property
    def mark(self) -> object:
        """Stands for its adapter: what was read under another is not its own."""
        return None if self.adapter is None else self.adapter.mark

    def end(self) -> None:
        """Says the last word, if all answers have ended."""
        if not self.over and all(answer.reason for answer in self.answers):
            self.over = True
            self.events.append(Ended(Usage(len(self.prompt), self.completion, self.cached)))

    def cancel(self) -> None:
        for answer in self.answers:
            if answer.reason is None:
                answer.finish("cancelled")
        self.end()

    def fail(self, failure: Failed) -> None:
        if not self.over:
            self.over = True
            self.events.append(failure)


class Answer:
    """One of a request's answers: the tokens read and made, and the text that they are.

    `tokens[: slot.length]` have been read by the model; the last one made has not.
    """

    def __init__(
        self,
        ticket: Ticket,
        index: int,
        *,
        chooser: Chooser,
        texts: TokenTexts,
        ends: frozenset[int],
        lookup: Lookup | None,
    ) -> None:
        """`ends`: tokens that end it."""
        sampling = ticket.request.sampling
        self.ticket, self.index = ticket, index
        self.tokens = list(ticket.prompt)
        self.slot: Slot | None = None
        self.chooser, self.lookup = chooser, lookup
        self.reason: FinishReason | None = None
        self._texts = texts
        # With a grammar the model has no other way to say that it is done.
        endless = sampling.ignore_eos and sampling.grammar is None
        self._ends = frozenset() if endless else ends
        context = ticket.prompt if ticket.request.messages is None else ()
        self._stream = TextStream(texts, context, sampling.stop)
        # Log-probabilities of tokens whose text is held back, with where it begins.
        self._logprobs: list[tuple[int, TokenLogprob]] = []

    @property
    def pending(self) -> int:
        """Tokens that the model has yet to read before it can say the next."""
        return len(self.tokens) - (self.slot.length if self.slot else 0)

    @property
    def room(self) -> int:
        """Tokens that it may still make."""
        return self.chooser.room

    @property
    def sound(self) -> bool:
        """Whether what the model has read of it was good for a token, and so for others' use."""
        return len(self.tokens) > len(self.ticket.prompt) and self.chooser.failure is None

    @property
    def left(self) -> bool:
        """Whether nobody waits for more of it."""
        return self.reason is not None or self.ticket.over

    def guess(self, most: int) -> list[int]:
        """What may follow, to be checked by the model; nothing where guessing is off."""
        most = min(most, self.room - 1)
        return self.lookup.guess(self.tokens, most) if self.lookup and most > 0 else []

    def push(self, choice: Choice) -> None:
        """Takes a token that the model has made; sets `reason` if it was the last."""
        token, failure = choice.token, self.chooser.failure
        if failure is not None:
            said = (failure.message, failure.code, failure.param, failure.status)
            self.ticket.fail(Failed(*said))
            return
        self.chooser.accept(token)
        self.tokens.append(token)
        self.ticket.completion += 1
        if token in self._ends:
            self.finish("stop")
            return
        if self.chooser.sampling.logprobs is not None:
            self._logprobs.append((self._stream.decoded, self._logprob(choice)))
        self._say(self._stream.add(token))
        if self._stream.stopped is not None or (
            self.chooser.matcher is not None and self.chooser.matcher.ended
        ):
            self.finish("stop")
        elif not self.room:
            self.finish("length")

    def finish(self, reason: FinishReason) -> None:
        stopped = self._stream.stopped
        if stopped is None:
            rest = self._stream.finish()
            # Even the end of a text that was cut may turn out to be a stop.
            stopped = self._stream.stopped
            self._say(rest, last=stopped is None)
        self.reason = "stop" if stopped is not None and reason == "length" else reason
        self.ticket.events.append(Finished(self.index, self.reason, stopped))

    def _say(self, text: str, *, last: bool = False) -> None:
        ready = 0
        for start, _ in self._logprobs:
            if not last and start >= self._stream.length:
                break
            ready += 1
        said = tuple(logprob for _, logprob in self._logprobs[:ready])
        del self._logprobs[:ready]
        if text or said:
            self.ticket.events.append(Delta(self.index, text, said))

    def _logprob(self, choice: Choice) -> TokenLogprob:
        text, raw = self._texts.single(choice.token)
        top = tuple((*self._texts.single(token), value) for token, value in choice.top)
        return TokenLogprob(text, raw, choice.logprob, top)
