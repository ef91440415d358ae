"""Batched together, answers are token for token those of the library's own `generate`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llm import tiny
from llm.engines.base import GenerationRequest
from llm.engines.slots.plain import Plain
from tests.llm.engine_runs import GREEDY, Reference, load, run_all

PROMPTS = [
    "Total: 12,000 won",
    "한국어 문장도 한 줄 넣는다. 그리고 그 다음 줄.",
    "a",
    "The quick brown fox jumps over the lazy dog. " * 12,
    "One two three four five six seven eight nine ten",
]
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
FAST = {
    "llama": {
        "architecture": "llama",
        "rope_parameters": LLAMA3_ROPE,
        "tie_word_embeddings": True,
        "attention_bias": True,
        "mlp_bias": True,
    },
    "qwen2": {
        "architecture": "qwen2",
        "kv_heads": 1,
        "use_sliding_window": True,
        "sliding_window": 12,
        "max_window_layers": 1,
    },
    "qwen3": {"architecture": "qwen3", "kv_heads": 4, "head_dim": 32},
    "mistral": {"architecture": "mistral", "sliding_window": 24},
}
# The library's own forward pass; whether answers can go on together in it.
PLAIN = {
    "gpt2": ({"architecture": "gpt2"}, True),
    "gemma2": ({"architecture": "gemma2"}, False),
    "llama-dynamic": (
        {
            "architecture": "llama",
            "rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0},
        },
        False,
    ),
}


@pytest.mark.parametrize("name", [*FAST, *PLAIN])
def test_greedy_answers_are_those_of_generate(
    name: str, shared_folder: Callable[..., Path]
) -> None:
    shape, together = (FAST[name], True) if name in FAST else PLAIN[name]
    folder = shared_folder(f"shape-{name}", lambda folder: tiny.random_model(folder, **shape))
    reference = Reference(folder)
    model = load(folder, options={"prefill_tokens": 48})
    try:
        runs_on = model._generation.batcher._model
        assert isinstance(runs_on, Plain) is (name in PLAIN)
        if name in PLAIN:
            assert runs_on.together is together
        runs = run_all(
            model,
            [
                GenerationRequest(str(at), prompt=prompt, sampling=GREEDY)
                for at, prompt in enumerate(PROMPTS)
            ],
        )
        for prompt, run in zip(PROMPTS, runs, strict=True):
            assert run.text() == reference.text(reference.generate(prompt))
            assert run.usage.completion == 24
    finally:
        model.close()
