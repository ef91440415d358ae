"""A trainer that is killed loses nothing: what comes of it is what had come of it uncut."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from random import Random

import psutil
import pytest

from finetune.engines.base import RESULT, Failed, Finished, Metrics, Saved, Started, TrainSpec
from finetune.engines.checkpoints import COMPLETE
from finetune.training.child import MODULE, Child
from llm.sources import loadable
from tests.finetune.engines.runs import SLOW, rotations, run, spec

pytestmark = pytest.mark.timeout(SLOW)


def weights(spec: TrainSpec) -> bytes:
    return (loadable(Path(spec.folder) / RESULT) / "adapter_model.safetensors").read_bytes()


def whole(spec: TrainSpec) -> list[Path]:
    folders = (Path(spec.folder) / "checkpoints").glob("checkpoint-*")
    found = [folder for folder in folders if (folder / COMPLETE).exists()]
    return sorted(found, key=lambda folder: int(folder.name.partition("-")[2]))


def kill_trainer(child: Child) -> None:
    """As the kernel does it when memory runs out: the trainer itself, without a word."""
    started = psutil.Process(child._process.pid)
    for one in [*started.children(recursive=True), started]:
        if one.cmdline()[1:3] == ["-m", MODULE]:
            one.send_signal(signal.SIGKILL)
            return
    raise AssertionError("there is no trainer")


def test_killed_at_any_step_and_gone_on_with_it_ends_the_same(
    tmp_path: Path, random_model: Path
) -> None:
    rows = rotations()
    options = {"epochs": 12, "save_steps": 7, "lora_dropout": 0.1, "learning_rate": 1e-3}
    uncut = spec(tmp_path / "uncut", random_model, rows[:80], rows[80:90], **options)
    told = run(uncut)
    cut = spec(tmp_path / "cut", random_model, rows[:80], rows[80:90], **options)
    at = Random(os.urandom(4)).randint(8, 40)
    seen = []
    with Child(tmp_path / "cut", arguments=[str(cut.write())]) as child:
        for event in child.events():
            seen.append(event)
            if isinstance(event, Metrics) and event.step >= at:
                kill_trainer(child)
                break
        for event in child.events():
            seen.append(event)
        assert child.exit_status != 0
        words = child.last_words()
    assert any(isinstance(event, Saved) for event in seen), words
    assert not any(isinstance(event, Failed | Finished) for event in seen), words
    newest = whole(cut)[-1]
    again = run(replace(cut, resume=str(newest)))
    assert again.one(Started).start_step == int(newest.name.partition("-")[2]) > 0
    assert again.one(Started).total_steps == told.one(Started).total_steps
    assert weights(cut) == weights(uncut)
    assert again.one(Finished).trained_tokens == told.one(Finished).trained_tokens
    # The curve goes on: points after the checkpoint are those of the uncut run.
    rest = again.curve("loss")
    assert rest == told.curve("loss")[-len(rest) :]


def test_a_run_that_was_whole_when_it_was_cut_only_ends(tmp_path: Path, random_model: Path) -> None:
    """Between the last checkpoint and the result."""
    whole_run = spec(tmp_path, random_model, rotations()[:16], max_steps=4, learning_rate=1e-3)
    run(whole_run)
    before = weights(whole_run)
    told = run(replace(whole_run, resume=str(whole(whole_run)[-1])))
    assert told.one(Finished).step == 4
    assert not told.curve("loss")
    assert weights(whole_run) == before


def test_it_ends_with_whoever_started_it(tmp_path: Path, random_model: Path) -> None:
    endless = spec(tmp_path, random_model, rotations()[:80], epochs=1000, log_steps=1)
    child = Child(tmp_path, arguments=[str(endless.write())])
    try:
        for event in child.events():
            if isinstance(event, Metrics):
                break
        trainer = psutil.Process(child._process.pid)
        child._process.stdin.close()
        # accelerate, which has started it, ends with it.
        trainer.wait(timeout=60)
    finally:
        child.end()
