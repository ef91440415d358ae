"""How tokens are chosen: each request by its own settings, whatever runs beside it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llm.engines.base import GenerationRequest, LoadedModel, Sampling
from llm.engines.slots.sampler import Chooser, choose
from mlops.exceptions import ApplicationError
from ocr.engines.torch_library import import_torch
from tests.llm.engine_runs import GREEDY, Reference, load, run_all, run_one

torch = import_torch()
PROMPT = "Total: 12,000 won"
FREE = Sampling(max_tokens=16, temperature=1.0, ignore_eos=True)


@pytest.fixture(scope="module")
def model(random_model: Path) -> Iterator[LoadedModel]:
    served = load(random_model)
    yield served
    served.close()


@pytest.fixture(scope="module")
def reference(random_model: Path) -> Reference:
    return Reference(random_model)


def asking(sampling: Sampling, name: str = "one", prompt: Any = PROMPT, **more: Any) -> Any:
    return GenerationRequest(name, prompt=prompt, sampling=sampling, **more)


def drawn(logits: list[float], sampling: Sampling, times: int = 2000) -> Counter[int]:
    choosers = [
        Chooser(replace(sampling, seed=at), index=0, prompt=[], limit=99) for at in range(times)
    ]
    rows = torch.tensor([logits]).repeat(times, 1)
    return Counter(choice.token for choice in choose(rows, choosers))


def test_tokens_come_as_often_as_they_are_likely() -> None:
    logits = [0.0, math.log(2.0), math.log(5.0), -math.inf]
    counts = drawn(logits, Sampling(temperature=1.0))
    assert counts[3] == 0
    for token, share in enumerate((1 / 8, 2 / 8, 5 / 8)):
        assert counts[token] / 2000 == pytest.approx(share, abs=0.04)
    # Half the temperature squares the odds.
    cold = drawn(logits, Sampling(temperature=0.5))
    assert cold[2] / cold[1] == pytest.approx(25 / 4, rel=0.25)


@pytest.mark.parametrize(
    ("sampling", "possible"),
    [
        (Sampling(top_k=2), {0, 1}),
        (Sampling(top_p=0.39), {0}),
        (Sampling(top_p=0.41), {0, 1}),
        (Sampling(top_p=0.71), {0, 1, 2}),
        (Sampling(min_p=0.6), {0, 1}),
        # Of the two likeliest, the first alone has four sevenths.
        (Sampling(top_k=2, top_p=0.5), {0}),
        (Sampling(top_k=2, top_p=0.6), {0, 1}),
        (Sampling(temperature=0.0), {0}),
        (Sampling(top_k=9), {0, 1, 2, 3}),
        (Sampling(logit_bias={0: -100.0}), {1, 2, 3}),
        (Sampling(logit_bias={3: 100.0}), {3}),
    ],
    ids=str,
)
def test_what_is_ruled_out_never_comes(sampling: Sampling, possible: set[int]) -> None:
    logits = [math.log(share) for share in (0.4, 0.3, 0.2, 0.1)]
    assert set(drawn(logits, sampling, 400)) == possible


def test_top_p_of_a_flat_vocabulary_is_exact() -> None:
    # 2,000 tokens of nearly the same probability: far more than the candidates looked at first.
    logits = [at * -1e-4 for at in range(2000)]
    shares = torch.tensor(logits).softmax(0).cumsum(0)
    edge = int((shares < 0.5).sum())
    counts = drawn(logits, Sampling(top_p=0.5))
    assert max(counts) <= edge
    assert max(counts) > edge - 50


def test_rows_of_all_kinds_in_one_step_keep_their_settings() -> None:
    kinds = [
        Sampling(temperature=0.0),
        Sampling(temperature=1.0, top_k=1),
        Sampling(temperature=0.0, logprobs=2),
        Sampling(temperature=0.0, logit_bias={7: 50.0}),
        Sampling(temperature=1.0, seed=5, logprobs=0),
    ]
    torch.manual_seed(0)
    rows = torch.randn(len(kinds), 50)
    wanted = rows.log_softmax(-1)
    alone = [
        choose(rows[at : at + 1].clone(), [Chooser(kind, index=0, prompt=[], limit=99)])[0]
        for at, kind in enumerate(kinds)
    ]
    together = choose(rows.clone(), [Chooser(kind, index=0, prompt=[], limit=99) for kind in kinds])
    assert together == alone
    assert [choice.token for choice in together[:4]] == [*rows[:3].argmax(-1).tolist(), 7]
    best = wanted[2].topk(2)
    assert together[2].logprob == pytest.approx(float(best.values[0]))
    assert [token for token, _ in together[2].top] == best.indices.tolist()
    assert together[4].logprob == pytest.approx(float(wanted[4, together[4].token]))


def test_penalties_are_those_of_openai_and_of_hugging_face() -> None:
    rows = torch.tensor([[1.0, -1.0, 2.0, 0.5]])
    chooser = Chooser(
        Sampling(temperature=0.0, presence_penalty=0.25, frequency_penalty=0.5),
        index=0,
        prompt=[0],
        limit=99,
    )
    for token in (2, 2, 1):
        chooser.accept(token)
    row = rows[0].clone()
    chooser.adjust(row)
    # Of the prompt nothing counts.
    assert row.tolist() == [1.0, -1.75, 0.75, 0.5]
    repeated = Chooser(
        Sampling(temperature=0.0, repetition_penalty=2.0), index=0, prompt=[0], limit=99
    )
    repeated.accept(1)
    row = rows[0].clone()
    repeated.adjust(row)
    assert row.tolist() == [0.5, -2.0, 2.0, 0.5]


def test_the_same_seed_gives_the_same_answer_whatever_runs_beside_it(model: LoadedModel) -> None:
    seeded = replace(FREE, seed=11, top_p=0.95)
    alone = run_one(model, asking(seeded)).text()
    crowd = [asking(replace(FREE, seed=at), f"other {at}", "Other " * at) for at in range(1, 9)]
    among = run_all(model, [*crowd, asking(seeded, "again")])[-1].text()
    assert among == alone
    assert run_one(model, asking(replace(seeded, seed=12))).text() != alone
    unseeded = {run_one(model, asking(FREE)).text() for _ in range(3)}
    assert len(unseeded) == 3


def test_n_answers_differ_and_read_the_prompt_once(model: LoadedModel) -> None:
    prompt = "Once upon a time there was a prompt that was read a single time for three answers."
    run = run_one(model, asking(replace(FREE, seed=3), prompt=prompt, n=3))
    texts = {run.text(index) for index in range(3)}
    assert len(texts) == 3
    assert run.usage.completion == 48
    assert run.usage.prompt == model.count(prompt)
    again = run_one(model, asking(replace(FREE, seed=3), prompt=prompt))
    assert again.text() == run.text(0)


def test_logprobs_are_the_model_s_own(model: LoadedModel, reference: Reference) -> None:
    sampling = replace(GREEDY, max_tokens=6, logprobs=3, logit_bias={5: -1.0})
    run = run_one(model, asking(sampling))
    tokens = reference.tokenizer(PROMPT)["input_ids"]
    made = reference.generate(PROMPT, 6)
    logprobs = run.logprobs()
    assert len(logprobs) == 6
    assert b"".join(one.bytes for one in logprobs).decode(errors="replace") == run.text()
    expected = reference.logits(tokens + made)[len(tokens) - 1 : -1].log_softmax(-1)
    for token, row, said in zip(made, expected, logprobs, strict=True):
        assert said.logprob == pytest.approx(float(row[token]), abs=1e-3)
        assert [value for _, _, value in said.top] == pytest.approx(
            row.topk(3).values.tolist(), abs=1e-3
        )
        assert said.top[0][0] == said.token


def test_unknown_tokens_are_refused(model: LoadedModel) -> None:
    biased = replace(GREEDY, logit_bias={9999: 1.0})
    for request in (asking(biased), asking(GREEDY, prompt=[1024]), asking(GREEDY, prompt=[5, -1])):
        with pytest.raises(ApplicationError, match="tokens are 0 to 1023") as caught:
            run_one(model, request)
        assert caught.value.status == 400
    with pytest.raises(ApplicationError, match="tokens are 0 to 1023"):
        model.embed([[3], [1024]])
