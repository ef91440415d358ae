"""Requests join and leave, share what they have in common, and fail alone."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llm import tiny
from llm.engines.base import (
    Delta,
    Ended,
    Failed,
    Finished,
    GenerationRequest,
    Grammar,
    LoadedModel,
    Sampling,
)
from llm.engines.slots import batcher, cache
from mlops.exceptions import ApplicationError
from ocr.engines.torch_library import import_torch
from tests.llm.engine_runs import GREEDY, Reference, load, run_all, run_one, start

LONG = replace(GREEDY, max_tokens=1500)


@pytest.fixture(scope="module")
def model(random_model: Path) -> Iterator[LoadedModel]:
    served = load(random_model)
    yield served
    served.close()


@pytest.fixture(scope="module")
def reference(random_model: Path) -> Reference:
    return Reference(random_model)


def asking(
    name: str, prompt: str = "Total: 12", sampling: Sampling = GREEDY, **more: Any
) -> GenerationRequest:
    return GenerationRequest(name, prompt=prompt, sampling=sampling, **more)


def test_a_request_joins_and_leaves_while_another_runs(model: LoadedModel) -> None:
    long = start(model, asking("long", sampling=LONG))
    long.next()
    assert run_one(model, asking("short")).usage.completion == 24
    assert not isinstance(long.seen[-1], Ended)
    model.cancel("long")
    assert long.finish().finished().reason == "cancelled"


def test_a_cancelled_request_ends_at_once_and_says_so(model: LoadedModel) -> None:
    run = start(model, asking("gone", sampling=LONG, n=2))
    run.next()
    model.cancel("gone")
    run.finish()
    assert [run.finished(index).reason for index in (0, 1)] == ["cancelled", "cancelled"]
    # What was made before the cancel is counted, and what was said of it arrived.
    said = sum(isinstance(event, Delta) for event in run.seen)
    assert said <= run.usage.completion < 3000
    model.cancel("gone")
    model.cancel("never heard of")
    assert run_one(model, asking("gone")).usage.completion == 24


def test_more_requests_than_slots_wait_for_their_turn(
    random_model: Path, reference: Reference
) -> None:
    served = load(random_model, options={"max_batch": 2, "prefill_tokens": 8})
    prompts = [f"Number {at}, " + "word " * (5 * at) for at in range(7)]
    try:
        runs = run_all(served, [asking(str(at), prompt) for at, prompt in enumerate(prompts)])
        for prompt, run in zip(prompts, runs, strict=True):
            assert run.text() == reference.text(reference.generate(prompt))
        # One that waits is cancelled without ever having run.
        held = [start(served, asking(f"held {at}", sampling=LONG)) for at in range(3)]
        served.cancel("held 2")
        assert held[2].finish().usage.completion == 0
        for at in (0, 1):
            served.cancel(f"held {at}")
            held[at].finish()
    finally:
        served.close()


def test_answers_that_outgrow_the_cache_take_turns(
    random_model: Path, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Room for one long answer; each of these begins in a short slot and needs a longer one.
    monkeypatch.setattr(cache, "SHORTEST", 32)
    monkeypatch.setattr(batcher, "FIRST_ROOM", 8)
    served = load(random_model, options={"cache_tokens": 160})
    prompts = ["Total: 12,000 won", "a", "One two three four"]
    sampling = replace(GREEDY, max_tokens=140)
    try:
        assert served.context_length == 160
        runs = run_all(
            served,
            [asking(str(at), prompt, sampling) for at, prompt in enumerate(prompts)],
        )
        for prompt, run in zip(prompts, runs, strict=True):
            assert run.text() == reference.text(reference.generate(prompt, 140))
    finally:
        served.close()


def test_a_shared_beginning_is_read_once(model: LoadedModel, reference: Reference) -> None:
    system = "You are a helpful assistant that knows all about invoices. " * 8
    prompts = [system + question for question in ("What is a total?", "Who pays?", "When?")]
    runs = run_all(model, [asking(str(at), prompt) for at, prompt in enumerate(prompts)])
    assert runs[0].usage.cached == 0
    assert all(run.usage.cached > 0.8 * run.usage.prompt for run in runs[1:])
    # A conversation goes on: its answer has been read, too.
    more = prompts[0] + runs[0].text() + " And then?"
    again = run_one(model, asking("again", more))
    assert again.usage.cached > runs[0].usage.prompt
    for prompt, run in zip([*prompts, more], [*runs, again], strict=True):
        assert run.text() == reference.text(reference.generate(prompt))


def test_prompts_that_begin_alike_wait_for_the_first_to_be_read(model: LoadedModel) -> None:
    prompt = "Something that begins like nothing before it and is read for all of them at once. "
    runs_on = model._generation.batcher
    step, read = runs_on._model.step, []

    def counted(parts: Any) -> Any:
        read.append(sum(len(part.tokens) for part in parts))
        return step(parts)

    runs_on._model.step = counted
    requests = [asking("n", prompt, n=4), *(asking(str(at), f"{prompt}{at}") for at in range(3))]
    try:
        runs = run_all(model, requests)
    finally:
        runs_on._model.step = step
    assert sum(read) < model.count(prompt) + sum(run.usage.completion for run in runs) + 30
    assert len({runs[0].text(index) for index in range(4)}) == 1


def test_guessed_tokens_change_nothing(shared_folder: Callable[..., Path]) -> None:
    # Its output is tied to its input: it repeats itself, and then guesses come true.
    folder = shared_folder(
        "shape-repeating", lambda folder: tiny.random_model(folder, tie_word_embeddings=True)
    )
    plain, guessing = load(folder), load(folder, options={"prompt_lookup": 6})
    sampling = replace(GREEDY, max_tokens=80)
    object_only = replace(sampling, grammar=Grammar("json_object"))
    requests = [
        asking("greedy", "one two one two one two one", sampling),
        asking("biased", "Total: 12", replace(sampling, frequency_penalty=0.1, logprobs=1)),
        asking("sampled", "a b a b a b", replace(sampling, temperature=0.5, seed=7)),
        asking("stopped", "ab ab ab", replace(sampling, stop=("zz", "ab"))),
        asking("grammar", '{"a": "b"} {"a": "b"} ', object_only),
    ]
    try:
        runs_on = guessing._generation.batcher
        step, read = runs_on._model.step, []

        def counted(parts: Any) -> Any:
            read.append(sum(part.wanted for part in parts))
            return step(parts)

        runs_on._model.step = counted
        expected = [run_one(plain, request) for request in requests]
        alone = [run_one(guessing, request) for request in requests]
        together = run_all(guessing, requests)
        for runs in (alone, together):
            for run, wanted in zip(runs, expected, strict=True):
                assert run.text() == wanted.text()
                assert run.finished() == wanted.finished()
                assert run.usage.completion == wanted.usage.completion
                assert [one.token for one in run.logprobs()] == [
                    one.token for one in wanted.logprobs()
                ]
        made = 2 * sum(run.usage.completion for run in expected)
        assert max(read) > len(requests)
        assert len(read) < 0.6 * made
    finally:
        plain.close()
        guessing.close()


def test_a_grammar_holds_its_own_request_alone(model: LoadedModel) -> None:
    schema = {
        "type": "object",
        "properties": {"total": {"type": "integer"}, "paid": {"type": "boolean"}},
        "required": ["total", "paid"],
        "additionalProperties": False,
    }
    grammar = Grammar("json_schema", json.dumps(schema))
    held = replace(GREEDY, max_tokens=60, grammar=grammar)
    runs = run_all(
        model,
        [
            asking("held", sampling=held, n=2),
            asking("free"),
            asking("hot", sampling=replace(held, temperature=1.0, seed=1, logprobs=2)),
            asking("short", sampling=replace(held, max_tokens=32)),
        ],
    )
    for run, index in ((runs[0], 0), (runs[0], 1), (runs[2], 0), (runs[3], 0)):
        assert set(json.loads(run.text(index))) == {"total", "paid"}
        assert run.finished(index).reason == "stop"
    assert runs[1].text() == run_one(model, asking("alone")).text()
    with pytest.raises(ApplicationError) as caught:
        run_one(model, asking("bad", sampling=replace(held, grammar=Grammar("regex", "("))))
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("sampling", "words", "said"),
    [
        (replace(GREEDY, max_tokens=2040), 30, "you requested"),
        (replace(GREEDY, max_tokens=None), 3000, "your prompt resulted in"),
        (replace(GREEDY, max_tokens=5), 3000, "your prompt resulted in"),
    ],
)
def test_what_is_longer_than_the_context_is_refused_with_the_numbers(
    model: LoadedModel, sampling: Sampling, words: int, said: str
) -> None:
    prompt = "word " * words
    with pytest.raises(ApplicationError) as caught:
        run_one(model, asking("long", prompt, sampling))
    assert (caught.value.code, caught.value.status) == ("context_length_exceeded", 400)
    assert "maximum context length is 2048 tokens" in caught.value.message
    assert f"{said} {model.count(prompt) + (2040 if words == 30 else 0)} tokens" in str(
        caught.value.message
    )


def test_the_context_s_last_token_is_used(random_model: Path, reference: Reference) -> None:
    served = load(random_model, context_length=64)
    try:
        run = run_one(served, asking("to the end", sampling=replace(GREEDY, max_tokens=None)))
        assert run.usage.prompt + run.usage.completion == 64
        assert run.finished().reason == "length"
        expected = reference.generate("Total: 12", run.usage.completion)
        assert run.text() == reference.text(expected)
    finally:
        served.close()


def test_a_step_that_fails_fails_its_requests_alone(model: LoadedModel) -> None:
    class Broken(Exception):
        pass

    runs_on = model._generation.batcher
    step = runs_on._model.step

    def failing(parts: Any) -> Any:
        step(parts)
        raise Broken("out of luck")

    runs_on._model.step = failing
    runs = [
        start(model, asking(f"broken {at}", "Not shared before: 12,345", LONG)) for at in range(2)
    ]
    failures = [run.finish().failure for run in runs]
    runs_on._model.step = step
    assert [(failure.status, failure.code) for failure in failures] == [(500, "internal_error")] * 2
    assert "Broken: out of luck" in failures[0].message
    # Of what the failed step has read nothing is shared.
    sound = run_one(model, asking("sound", "Not shared before: 12,345"))
    assert sound.usage.cached == 0
    assert run_one(model, asking("again", "Not shared before: 12,345")).text() == sound.text()


def test_a_listener_that_raises_harms_no_other(model: LoadedModel) -> None:
    def deaf(event: Any) -> None:
        raise OSError("the line is dead")

    model.submit(asking("deaf", sampling=LONG), deaf)
    assert run_one(model, asking("sound")).usage.completion == 24
    model.cancel("deaf")
    assert run_one(model, asking("sound")).usage.completion == 24


def test_a_long_prompt_holds_up_nobody(model: LoadedModel) -> None:
    short = start(model, asking("short", sampling=LONG))
    short.next()
    long = start(model, asking("long", "Something to read that is new. " * 110))
    while not long.events.qsize():
        short.next()
    # It was read in pieces, and with each the other answer has gone on.
    assert sum(isinstance(event, Delta) for event in short.seen) > 3
    model.cancel("short")
    assert long.finish().usage.cached == 0
    short.finish()


def test_closing_ends_what_runs_with_a_failure(random_model: Path) -> None:
    served = load(random_model)
    weights = served.memory_bytes
    runs = [start(served, asking(str(at), sampling=LONG)) for at in range(3)]
    runs[0].next()
    assert served.memory_bytes > weights
    held = weakref.ref(served._generation.batcher._model)
    served.close()
    assert {run.finish().failure.code for run in runs} == {"model_unloaded"}
    with pytest.raises(ApplicationError) as caught:
        run_one(served, asking("late"))
    assert (caught.value.code, caught.value.status) == ("model_unloaded", 503)
    served.close()
    gc.collect()
    assert held() is None
    assert served.memory_bytes == 0


def test_chats_go_through_the_template(model: LoadedModel, random_model: Path) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    request = GenerationRequest("chat", messages=messages, sampling=GREEDY)
    prompt = model.render(messages)
    assert prompt.endswith("assistant\n")
    assert "Hello" in prompt
    run = run_one(model, request)
    assert run.text() == run_one(model, asking("same", prompt)).text()
    assert model.tool_format == "hermes"
    with pytest.raises(ApplicationError, match="refuses these messages"):
        run_one(model, replace(request, messages=[{"no": "role"}]))
    other = load(random_model, chat_template="{{ messages[0].content }}!")
    try:
        assert (other.render(messages), other.tool_format) == ("Hello!", "")
    finally:
        other.close()


def test_events_come_in_order(model: LoadedModel) -> None:
    run = run_one(model, asking("order", n=2))
    for index in (0, 1):
        own = [e for e in run.seen if isinstance(e, Delta | Finished) and e.index == index]
        assert isinstance(own[-1], Finished)
        assert all(isinstance(event, Delta) for event in own[:-1])
    assert not any(isinstance(event, Ended | Failed) for event in run.seen[:-1])


def test_what_is_no_number_fails_alone_and_spoils_nothing(random_model: Path) -> None:
    served = load(random_model, options={"max_batch": 2})
    torch = import_torch()
    runs_on = served._generation.batcher._model
    short, long = asking("short", "ab ab"), asking("long", "cd ef " * 90)
    try:
        expected = [run.text() for run in run_all(served, [short, long])]
        with torch.inference_mode():
            token = served._prompts.tokens("ZZ", special=True)[0]
            kept = runs_on._embeddings[token].clone()
            runs_on._embeddings[token] = float("nan")
        sound, spoiled = start(served, short), start(served, asking("spoiled", "ZZ" * 90))
        assert spoiled.finish().failure.code == "model_failed"
        assert sound.finish().text() == expected[0]
        with torch.inference_mode():
            runs_on._embeddings[token] = kept
        # The slot is used again, beside a longer one, for whose sake it is read to its end.
        runs = run_all(served, [asking("other", "ab ba"), long, short])
        assert [runs[2].text(), runs[1].text()] == expected
        assert runs[0].usage.completion == 24
    finally:
        served.close()
