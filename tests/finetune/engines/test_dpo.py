"""Preferences: the better answer becomes the likelier one."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune.engines.base import RESULT, Finished, Started
from llm.sources import loadable
from tests.finetune.engines.runs import SLOW, Row, rotations, run, spec

pytestmark = pytest.mark.timeout(SLOW)


def pairs(count: int) -> list[Row]:
    """Whatever is asked: to answer with the moon is better than with fire."""
    return [
        {
            "prompt": row["messages"][:1],
            "chosen": [{"role": "assistant", "content": "moon"}],
            "rejected": [{"role": "assistant", "content": "fire"}],
        }
        for row in rotations()[:count]
    ]


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_the_margin_grows(tmp_path: Path, random_model: Path, adapter: str) -> None:
    rows = pairs(48)
    told = run(
        spec(
            tmp_path,
            random_model,
            rows[:40],
            rows[40:],
            method="dpo",
            epochs=3,
            adapter=adapter,
            learning_rate=2e-3 if adapter == "lora" else 5e-4,
        )
    )
    margin, accuracy = told.curve("eval_margin"), told.curve("eval_accuracy")
    assert told.curve("margin")[0] == pytest.approx(0.0, abs=1e-3)
    assert margin[-1] > max(0.2, margin[0])
    assert accuracy[-1] > 0.9
    finished = told.one(Finished)
    assert finished.parity["fit"], finished.parity
    assert told.one(Started).settings["packing"] is False
    # One adapter, and not the one of before that it was compared with.
    files = [path.name for path in loadable(tmp_path / RESULT).rglob("adapter_model.safetensors")]
    assert len(files) == (adapter == "lora")


def test_it_goes_on_with_an_adapter_of_another_run(tmp_path: Path, random_model: Path) -> None:
    """What it is compared with is then the model with that adapter, not the base."""
    first = spec(tmp_path / "a", random_model, rotations()[:32], max_steps=8, learning_rate=5e-3)
    run(first)
    checkpoint = tmp_path / "a" / "checkpoints" / "checkpoint-8"
    second = spec(
        tmp_path / "b",
        random_model,
        pairs(24),
        method="dpo",
        max_steps=3,
        given={"begin_with": str(checkpoint)},
    )
    told = run(second)
    assert told.curve("margin")[0] == pytest.approx(0.0, abs=1e-3)
    assert told.one(Finished).parity["fit"]
    adapters = list(loadable(tmp_path / "b" / RESULT).rglob("adapter_model.safetensors"))
    assert len(adapters) == 1
