"""Continuous batching: answers join and leave between steps; one thread a model."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from queue import SimpleQueue
from typing import Any, Protocol

import structlog

from llm.engines.base import Event, Failed, Listener, Occupancy
from llm.engines.slots.answer import Answer, Ticket
from llm.engines.slots.attention import Part
from llm.engines.slots.cache import Slot, common_length
from llm.engines.slots.sampler import choose
from ocr.engines.torch_library import import_torch

torch = import_torch()
log = structlog.get_logger(__name__)

# Room that an answer is given at first, if it may become longer.
FIRST_ROOM = 256
# A prompt waits for another that is being read, if it will share so many more tokens with it.
WORTH_WAITING = 16
# Waiting prompts that are looked at for one that need not wait.
LOOKED_AT = 64
# For how many seconds reading a prompt may hold up the answers under way, in one step, as long as
# the pieces do not become too small to be worth a step.
LONGEST_PAUSE, SMALLEST_PIECE = 0.1, 32
# Tokens guessed in a step, of all answers together.
GUESSED_ROWS = 16


class Cache(Protocol):
    """Where the model keeps what it has read; see `SlotCache`."""

    def take(self, tokens: Sequence[int], need: int, adapter: object) -> Slot | None: ...
    def grow(self, slot: Slot, need: int, wanted: int) -> Slot | None: ...
    def release(self, slot: Slot, *, keep: bool) -> None: ...
    def longest_shared(self, tokens: Sequence[int], adapter: object) -> tuple[Slot | None, int]: ...
    def clear(self) -> None: ...


class Model(Protocol):
    """`step` reads tokens into slots and gives the wanted logits; see `Llama`."""

    def step(self, parts: Sequence[Part]) -> Any: ...


class Batcher:
    """Steps of all answers under way together, in a thread of its own.

    Each step takes one token of every answer that is being made, and at most `prefill_tokens` of
    prompts, so that a long prompt holds up nobody. Events go to the listeners from a second thread:
    what they do then runs beside the model's next step.
    """

    def __init__(
        self,
        model: Model,
        cache: Cache,
        *,
        name: str,
        context: int,
        max_batch: int,
        prefill_tokens: int,
        done: Callable[[Ticket], None],
    ) -> None:
        """`done` is called with each ticket that has ended."""
        self._model, self._cache, self._done = model, cache, done
        self._context, self._max_batch = context, max_batch
        self._prefill_tokens = prefill_tokens
        self._wakes = threading.Condition()
        # Under the condition: what other threads put in.
        self._inbox: deque[Ticket] = deque()
        self._cancelled: set[Ticket] = set()
        self._tickets: set[Ticket] = set()
        self._closing = False
        # The engine thread's own.
        self._waiting: deque[Answer] = deque()
        self._running: list[Answer] = []
        # Tokens of prompts that the model reads in a second.
        self._pace = prefill_tokens / LONGEST_PAUSE
        self._outbox: SimpleQueue[list[tuple[Listener, list[Event]]] | None] = SimpleQueue()
        self._teller = threading.Thread(target=self._tell, name=f"llm-tell {name}", daemon=True)
        self._thread = threading.Thread(target=self._loop, name=f"llm {name}", daemon=True)
        self._teller.start()
        self._thread.start()

    def submit(self, ticket: Ticket) -> None:
        with self._wakes:
            if self._closing:
                ticket.fail(_closed())
                ticket.listener(ticket.events[-1])
                return
            self._tickets.add(ticket)
            self._inbox.append(ticket)
            self._wakes.notify()

    def cancel(self, request_id: str) -> None:
        with self._wakes:
            self._cancelled |= {one for one in self._tickets if one.request.id == request_id}
            self._wakes.notify()

    def close(self) -> None:
        with self._wakes:
            self._closing = True
            self._wakes.notify()
        self._thread.join()
        self._teller.join()

    @property
    def occupancy(self) -> Occupancy:
        """Looked at from another thread, while it changes: right to an answer or two."""
        slots = [answer.slot for answer in list(self._running)]
        return Occupancy(
            running=len(slots),
            waiting=len(self._waiting) + len(self._inbox),
            cached_tokens=sum(slot.length for slot in slots if slot is not None),
        )

    # -- the engine's thread ------------------------------------------------------------------

    @torch.inference_mode()
    def _loop(self) -> None:
        try:
            while self._take_in():
                self._try_step()
        finally:
            with self._wakes:
                # Also where this thread has come to grief: nobody may wait for it.
                self._closing = True
                left = list(self._tickets)
            for ticket in left:
                ticket.fail(_closed())
            self._settle(left)
            self._cache.clear()
            self._outbox.put(None)

    def _try_step(self) -> None:
        involved: list[Answer] = []
        try:
            self._step(involved)
        except Exception as error:
            # Whatever it was, the requests of the next step have nothing to do with it.
            log.exception("llm_step_failed", answers=len(involved))
            for answer in involved:
                answer.ticket.fail(Failed(f"The model failed: {type(error).__name__}: {error}"))
        self._settle({answer.ticket for answer in involved})

    def _take_in(self) -> bool:
        """New requests and cancels; waits while there is nothing to do. False at the end."""
        with self._wakes:
            while not (
                self._inbox or self._cancelled or self._waiting or self._running or self._closing
            ):
                self._wakes.wait()
            if self._closing:
                return False
            arrived, self._inbox = self._inbox, deque()
            cancelled, self._cancelled = self._cancelled, set()
        for ticket in arrived:
            self._waiting.extend(answer for answer in ticket.answers if answer.reason is None)
        for ticket in cancelled:
            ticket.cancel()
        self._settle({*arrived, *cancelled})
        return True

    def _step(self, involved: list[Answer]) -> None:
        """One step of the model; `involved` gets the answers that take part, as soon as it is
        known, so that a failure can be told to them alone."""
        parts = self._plan(involved)
        if not parts:
            return
        started = time.monotonic()
        logits = self._model.step(parts)
        if max(len(part.tokens) for part in parts) >= SMALLEST_PIECE:
            self._pace = sum(len(part.tokens) for part in parts) / (time.monotonic() - started)
        said = [(answer, part) for answer, part in zip(involved, parts, strict=True) if part.wanted]
        if said:
            self._choose(said, logits)

    def _plan(self, involved: list[Answer]) -> list[Part]:
        parts: list[Part] = []

        def join(answer: Answer, tokens: list[int], wanted: int) -> None:
            involved.append(answer)
            parts.append(Part(answer.slot, tokens, wanted, answer.ticket.adapter))

        # Beside many others a guess costs more than it saves.
        guesses = GUESSED_ROWS // max(1, len(self._running))
        for answer in list(self._running):
            if answer.slot is not None and answer.pending == 1:
                drafted = answer.guess(guesses)
                if self._ensure_room(answer, 1 + len(drafted)):
                    join(answer, [answer.tokens[-1], *drafted], 1 + len(drafted))
        budget = self._budget(bool(parts))
        for answer in list(self._running):
            if budget and answer.slot is not None and answer.pending > 1:
                budget -= self._read(answer, budget, join)
        while budget and len(self._running) < self._max_batch:
            answer = self._admit()
            if answer is None:
                break
            budget -= self._read(answer, budget, join)
        # An answer may have lost its slot to another after it was planned.
        kept = [at for at, answer in enumerate(involved) if answer.slot is parts[at].slot]
        involved[:] = [involved[at] for at in kept]
        return [parts[at] for at in kept]

    def _budget(self, others_wait: bool) -> int:
        """How many tokens of prompts to read in this step."""
        if not others_wait:
            return self._prefill_tokens
        return max(SMALLEST_PIECE, min(self._prefill_tokens, int(self._pace * LONGEST_PAUSE)))

    def _read(
        self, answer: Answer, budget: int, join: Callable[[Answer, list[int], int], None]
    ) -> int:
        """The next piece of a prompt; how many tokens of the budget it takes."""
        count = min(answer.pending, budget)
        if not self._ensure_room(answer, count):
            return 0
        start = answer.slot.length
        last = count == answer.pending
        join(answer, answer.tokens[start : start + count], int(last))
        return count

    def _admit(self) -> Answer | None:
        """The first waiting answer that gets a slot; it is running then."""
        while self._waiting and self._waiting[0].left:
            self._waiting.popleft()
        for at in range(min(len(self._waiting), LOOKED_AT)):
            answer = self._waiting[at]
            if answer.left or self._soon_shared(answer):
                continue
            need = min(self._context, len(answer.tokens) + min(answer.room, FIRST_ROOM))
            slot = self._cache.take(answer.tokens, need, answer.ticket.mark)
            if slot is None:
                return None
            del self._waiting[at]
            answer.slot = slot
            self._running.append(answer)
            if answer.index == 0 and len(answer.tokens) == len(answer.ticket.prompt):
                answer.ticket.cached = slot.length
            return answer
        return None

    def _soon_shared(self, answer: Answer) -> bool:
        """Whether another prompt with the same beginning is being read right now."""
        most, limit = 0, len(answer.tokens) - 1
        for other in self._running:
            if other.pending > 1 and other.ticket.mark is answer.ticket.mark:
                shared = common_length(other.tokens, answer.tokens, min(limit, len(other.tokens)))
                most = max(most, shared)
        if most < WORTH_WAITING:
            return False
        _, now = self._cache.longest_shared(answer.tokens, answer.ticket.mark)
        return most >= now + WORTH_WAITING

    def _ensure_room(self, answer: Answer, count: int) -> bool:
        """Room for `count` more tokens, if need be at the cost of the answer that came last."""
        need = answer.slot.length + count
        wanted = min(self._context, max(need, len(answer.tokens)) + FIRST_ROOM)
        while (grown := self._cache.grow(answer.slot, need, wanted)) is None:
            last = self._running[-1]
            self._put_back(last)
            if last is answer:
                return False
        answer.slot = grown
        return True

    def _put_back(self, answer: Answer) -> None:
        """To the head of the queue: it goes on later, after reading anew what it had."""
        self._running.remove(answer)
        self._cache.release(answer.slot, keep=answer.sound)
        answer.slot = None
        self._waiting.appendleft(answer)

    def _choose(self, said: list[tuple[Answer, Part]], logits: Any) -> None:
        if all(part.wanted == 1 for _, part in said):
            choices = choose(logits, [answer.chooser for answer, _ in said])
            for (answer, _), choice in zip(said, choices, strict=True):
                answer.push(choice)
        else:
            start = 0
            for answer, part in said:
                self._follow(answer, part, logits[start : start + part.wanted])
                start += part.wanted
        for answer, _ in said:
            # Of what was guessed, only that is kept which the model said itself.
            answer.slot.length = min(answer.slot.length, len(answer.tokens) - 1)

    @staticmethod
    def _follow(answer: Answer, part: Part, logits: Any) -> None:
        """Says the model's own tokens as long as they are those that were guessed."""
        choices = (choose(row[None], [answer.chooser])[0] for row in logits)
        if answer.chooser.plain:
            choices = iter(choose(logits, [answer.chooser] * len(logits)))
        guesses = [*part.tokens[1:], None]
        for right, (guess, choice) in enumerate(zip(guesses, choices, strict=False)):
            answer.push(choice)
            if answer.left or choice.token != guess:
                answer.lookup.learn(part.wanted - 1, right)
                return

    def _settle(self, tickets: Iterable[Ticket]) -> None:
        """Ends what has ended of these, and passes their events on."""
        told = []
        for ticket in tickets:
            ticket.end()
            for answer in ticket.answers:
                if answer.slot is not None and (ticket.over or answer.reason is not None):
                    # What a failed step has left may be anything.
                    keep = answer.sound and answer.reason is not None
                    self._cache.release(answer.slot, keep=keep)
                    answer.slot = None
                    self._running.remove(answer)
            if ticket.events:
                told.append((ticket.listener, ticket.events))
                ticket.events = []
            if ticket.over:
                with self._wakes:
                    self._tickets.discard(ticket)
                    self._cancelled.discard(ticket)
                self._done(ticket)
        if told:
            # At once: each one could hand the interpreter over to the other thread.
            self._outbox.put(told)

    # -- the listeners' thread ----------------------------------------------------------------

    def _tell(self) -> None:
        while (told := self._outbox.get()) is not None:
            for listener, events in told:
                try:
                    for event in events:
                        listener(event)
                except Exception:
                    # It must not raise; if it does, those of other requests still hear theirs.
                    log.exception("llm_listener_failed")


def _closed() -> Failed:
    return Failed(
        "The model is being unloaded: send the request again.", code="model_unloaded", status=503
    )
