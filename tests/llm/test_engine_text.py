"""From tokens to text: whole characters, the right spaces, and stops that never show."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest

from llm.engines.base import Delta, GenerationRequest, LoadedModel
from llm.engines.slots.text import BROKEN, TextStream, TokenTexts
from ocr.engines.torch_library import import_torch
from tests.llm.engine_runs import GREEDY, Reference, load, run_one

import_torch()
TEXTS = [
    "Plain words, and  two spaces.",
    "합계 12,000원 - 감사합니다! 뷁",
    "Emoji 👩‍👩‍👧 and 日本語 and\n\ttabs",
    " leading and trailing ",
]


@pytest.fixture(scope="module")
def byte_level(random_model: Path) -> Any:
    return Reference(random_model).tokenizer


@pytest.fixture(scope="module")
def sentencepiece() -> Any:
    """As Llama's first tokenizers: pieces with U+2581 for a space, bytes for rare characters."""
    tokenizers = importlib.import_module("tokenizers")
    transformers = importlib.import_module("transformers")
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    letters = sorted({*"abcdefghijklmnopqrstuvwxyzPE,.12", "\u2581"})
    words = ["\u2581w", "\u2581a", "\u2581s", "in", "an"]
    vocabulary = {piece: at for at, piece in enumerate([*pieces, *letters, *words])}
    merges = [("\u2581", "w"), ("\u2581", "a"), ("\u2581", "s"), ("i", "n"), ("a", "n")]
    backend = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True)
    )
    backend.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.Prepend("\u2581"), tokenizers.normalizers.Replace(" ", "\u2581")]
    )
    backend.decoder = tokenizers.decoders.Sequence(
        [
            tokenizers.decoders.Replace("\u2581", " "),
            tokenizers.decoders.ByteFallback(),
            tokenizers.decoders.Fuse(),
            tokenizers.decoders.Strip(" ", 1, 0),
        ]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def pieces(tokenizer: Any, tokens: list[int], prompt: list[int], stops: Any = ()) -> list[str]:
    stream = TextStream(TokenTexts(tokenizer), prompt, stops)
    said = []
    for token in tokens:
        said.append(stream.add(token))
        if stream.stopped is not None:
            return said
    return [*said, stream.finish()]


@pytest.mark.parametrize("kind", ["byte_level", "sentencepiece"])
@pytest.mark.parametrize("text", TEXTS)
def test_pieces_are_whole_characters_that_make_up_the_text(
    kind: str, text: str, request: pytest.FixtureRequest
) -> None:
    tokenizer = request.getfixturevalue(kind)
    tokens = tokenizer(text)["input_ids"]
    said = pieces(tokenizer, tokens, [])
    assert "".join(said) == text
    assert not any(BROKEN in piece for piece in said)
    # They come as they are read, not at the end.
    assert sum(bool(piece) for piece in said) > 0.2 * len(text)


@pytest.mark.parametrize("kind", ["byte_level", "sentencepiece"])
def test_an_answer_goes_on_where_its_prompt_ends(kind: str, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(kind)
    tokens = tokenizer("a prompt and its answer, 합계 12")["input_ids"]
    whole = tokenizer.decode(tokens)
    for cut in range(1, len(tokens)):
        before = tokenizer.decode(tokens[:cut])
        if BROKEN in before:
            continue
        assert before + "".join(pieces(tokenizer, tokens[cut:], tokens[:cut])) == whole


def test_bytes_that_are_no_text_hold_nothing_up(byte_level: Any) -> None:
    random = Random(4)
    broken = [
        token
        for token in range(len(byte_level))
        if BROKEN in byte_level.decode([token]) and token not in byte_level.all_special_ids
    ]
    tokens = [random.choice(broken) for _ in range(400)]
    said = pieces(byte_level, tokens, [])
    assert "".join(said).count(BROKEN) > 100
    lags = [at for at, piece in enumerate(said) if piece]
    assert max(b - a for a, b in pairwise(lags)) < 40


@pytest.mark.parametrize(
    ("stops", "said", "stopped"),
    [
        (("three",), "one two ", "three"),
        (("e thr",), "one two thre", None),
        (("wo th",), "one t", "wo th"),
        (("four", "two", "wo"), "one ", "two"),
        (("three four five",), "one two three four", None),
        (("one",), "", "one"),
        (("r",), "one two th", "r"),
    ],
)
def test_stops_end_the_text_before_them(
    byte_level: Any, stops: tuple[str, ...], said: str, stopped: str | None
) -> None:
    text = "one two three four"
    if stopped is None:
        said = text
    # One letter a token: every stop is spread over several.
    tokens = [token for letter in text for token in byte_level(letter)["input_ids"]]
    stream = TextStream(TokenTexts(byte_level), [], stops)
    heard = ""
    for token in tokens:
        heard += stream.add(token)
        # What was let out is never the beginning of a stop that comes.
        assert text.startswith(heard)
        assert len(heard) <= len(said)
        if stream.stopped:
            break
    else:
        heard += stream.finish()
    assert (heard, stream.stopped) == (said, stopped)


def test_single_tokens_have_their_own_bytes(byte_level: Any, sentencepiece: Any) -> None:
    for tokenizer in (byte_level, sentencepiece):
        texts = TokenTexts(tokenizer)
        text = "a 합계 12"
        tokens = tokenizer(text)["input_ids"]
        raw = b"".join(texts.single(token)[1] for token in tokens)
        assert raw.decode().strip() == text
        assert texts.single(len(tokenizer) + 5) == ("", b"")


@pytest.fixture(scope="module")
def model(random_model: Path) -> Iterator[LoadedModel]:
    served = load(random_model)
    yield served
    served.close()


def test_a_stop_ends_the_answer_and_takes_its_logprobs_along(model: LoadedModel) -> None:
    request = GenerationRequest("one", prompt="Total: 12", sampling=replace(GREEDY, logprobs=0))
    whole = run_one(model, request)
    letters = [one.token for one in whole.logprobs()]
    at = next(at for at in range(8, 20) if BROKEN not in "".join(letters[at : at + 2]))
    stop = letters[at] + letters[at + 1]
    before = whole.text()[: whole.text().index(stop)]
    run = run_one(model, replace(request, sampling=replace(request.sampling, stop=(stop, "zz"))))
    assert run.text() == before
    assert (run.finished().reason, run.finished().stop) == ("stop", stop)
    assert run.usage.completion < 24
    said = b"".join(one.bytes for one in run.logprobs()).decode(errors="replace")
    assert said == before


def test_echo_puts_the_prompt_in_front(model: LoadedModel) -> None:
    prompt = "Total: 12,000 won"
    plain = run_one(model, GenerationRequest("one", prompt=prompt, sampling=GREEDY))
    for given in (prompt, Reference):
        asked = prompt if given is prompt else model._prompts.tokens(prompt, special=True)
        run = run_one(
            model, GenerationRequest("two", prompt=asked, sampling=GREEDY, echo=True, n=2)
        )
        assert run.text(0) == run.text(1) == prompt + plain.text()
    nothing = replace(GREEDY, max_tokens=0)
    run = run_one(model, GenerationRequest("3", prompt=prompt, sampling=nothing, echo=True))
    assert (run.text(), run.finished().reason, run.usage.completion) == (prompt, "length", 0)


def test_korean_streams_in_whole_characters(model: LoadedModel) -> None:
    run = run_one(
        model, GenerationRequest("k", prompt="합계", sampling=replace(GREEDY, max_tokens=200))
    )
    deltas = [event.text for event in run.seen if isinstance(event, Delta)]
    assert sum("가" <= letter <= "힣" for letter in "".join(deltas)) > 5
