"""The parts of a recogniser's training by themselves."""

from __future__ import annotations

from pathlib import Path
from random import Random
from types import SimpleNamespace

import numpy as np
import pytest

from tests.finetune.recogniser.drawn import Heard, line, ready

ready()

import torch  # noqa: E402  (made ready above)

from finetune.engines.callback import State  # noqa: E402
from finetune.engines.recogniser.augment import varied  # noqa: E402
from finetune.engines.recogniser.batches import WidthSampler  # noqa: E402
from finetune.engines.recogniser.characters import (  # noqa: E402
    Alphabet,
    line_text,
    steps_needed,
)
from finetune.engines.recogniser.export import compared, save  # noqa: E402
from finetune.engines.recogniser.learner import LinesCallback  # noqa: E402
from finetune.engines.recogniser.lines import Lines, batch_of, grey_line  # noqa: E402
from finetune.engines.recogniser.network import Model  # noqa: E402


def some_lines(height: int, *widths: int) -> Lines:
    random = np.random.default_rng(0)
    ends = np.cumsum(widths)
    pixels = random.integers(0, 256, (ends[-1], height)).astype(np.uint8)
    return Lines(pixels, ["A"] * len(widths), np.stack([ends - widths, ends], axis=1))


def test_the_best_path_of_ctc() -> None:
    alphabet = Alphabet("AB ")
    assert alphabet.decode([0, 1, 1, 0, 1, 2, 2, 3, 0]) == "AAB "
    assert alphabet.classes == 4
    assert [steps_needed(text) for text in ("", "AB", "AAB", "AAAA")] == [0, 2, 4, 7]


def test_texts_are_learnt_composed_and_with_single_spaces() -> None:
    assert line_text(" e\u0301t\u00e9\u00a0 2\t") == "été 2"
    assert Alphabet.of(["b a", "aé"]).characters == " abé"
    assert Alphabet("ab").missing(["abc", "cc d"]) == {"c": 2, " ": 1, "d": 1}


def test_a_batch_has_lines_of_about_one_width_and_each_row_comes_once_an_epoch() -> None:
    widths = np.random.default_rng(3).integers(20, 800, 1003)
    sampler = WidthSampler(widths, batch=16, seed=5)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    for epoch, keys in enumerate((first, second)):
        assert {key[0] for key in keys} == {epoch}
        assert sorted(key[1] for key in keys) == list(range(1003))
    assert [row for _, row in first] != [row for _, row in second]
    spreads = [
        np.ptp(widths[[row for _, row in first[start : start + 16]]]) for start in range(0, 992, 16)
    ]
    # Sorted by chance alone it would be some 680.
    assert np.median(spreads) < 60
    again = WidthSampler(widths, batch=16, seed=5)
    again.set_epoch(1)
    assert list(again) == second
    assert list(WidthSampler(widths, batch=16, seed=6)) != first


def test_a_line_varies_with_epoch_and_row_and_with_nothing_else() -> None:
    picture = line("ABCE 0123", Random(1))
    scaled = grey_line(picture, height=32, most=256)
    seen = [varied(scaled, np.random.default_rng(key), most=200) for key in ([1, 0, 7], [1, 1, 7])]
    again = varied(scaled, np.random.default_rng([1, 0, 7]), most=200)
    assert np.array_equal(seen[0], again)
    assert seen[0].shape != seen[1].shape or not np.array_equal(*seen)
    for number in range(50):
        changed = varied(scaled, np.random.default_rng(number), most=200)
        assert changed.dtype == np.uint8
        assert changed.shape[0] == 32
        assert 8 <= changed.shape[1] <= 200


def test_lines_keep_their_proportions_up_to_the_widest() -> None:
    picture = np.zeros((50, 500), np.uint8)
    assert grey_line(picture, height=32, most=1000).shape == (32, 320)
    assert grey_line(picture, height=32, most=200).shape == (32, 200)
    assert grey_line(np.zeros((50, 3), np.uint8), height=32, most=200).shape == (32, 8)
    assert grey_line(np.zeros((20, 40, 3), np.uint8), height=10, most=200).shape == (10, 20)


def test_batches_are_filled_up_with_the_last_column() -> None:
    narrow, wide = np.full((4, 10), 255, np.uint8), np.zeros((4, 40), np.uint8)
    narrow[:, -1] = 0
    batch = batch_of([narrow, wide])
    assert batch.shape == (2, 1, 4, 64)
    assert (batch[0, 0, :, :9] == 1).all()
    assert (batch[0, 0, :, 9:] == -1).all()


@pytest.mark.parametrize("sizes", [(16, 8, 16), (32, 16, 24), (45, 8, 16), (64, 8, 32)])
def test_the_onnx_graph_is_the_network(tmp_path: Path, sizes: tuple[int, int, int]) -> None:
    height, channels, hidden = sizes
    named = {"height": height, "channels": channels, "hidden": hidden}
    torch.manual_seed(1)
    network = Model(5, **named)
    lines = some_lines(height, 40, 100, 17, 260)
    # So that the normalisation has something to fold in.
    network.train()(torch.from_numpy(batch_of([lines.picture(3)])))
    network.eval()
    made = {"sizes": named, "languages": ["en", "eu"], "most_width": 256, "cer": None}
    save(tmp_path / "result", network, alphabet=Alphabet("AB C"), **made)
    found = compared(tmp_path / "result", network, lines, named)
    assert found["fit"]
    assert found["reloaded"]["max_difference"] == 0
    assert found["onnx"]["max_difference"] < 1e-4
    # EasyOCR has no Basque, and refuses whoever asks for it.
    assert "lang_list:\n- en\n" in (tmp_path / "result" / "recogniser.yaml").read_text()


def test_files_that_differ_from_the_network_are_unfit(tmp_path: Path) -> None:
    named = {"height": 32, "channels": 8, "hidden": 16}
    network = Model(5, **named).eval()
    made = {"sizes": named, "languages": ["en"], "most_width": 256, "cer": None}
    save(tmp_path / "result", network, alphabet=Alphabet("AB C"), **made)
    with torch.no_grad():
        network.choose.bias[2] += 0.1
    found = compared(tmp_path / "result", network, some_lines(32, 40, 100), named)
    assert not found["fit"]
    assert found["onnx"]["max_difference"] == pytest.approx(0.1, abs=1e-3)


def test_of_tries_without_a_single_letter_the_one_of_less_loss_is_better() -> None:
    """CTC says nothing at first: its error rate stays at 1 while it learns."""
    callback = LinesCallback(Heard(), State(1, 1), keep=2, patience=2, settings={})
    control = SimpleNamespace(should_save=False, should_training_stop=False)

    def tried(step: int, cer: float, loss: float) -> int:
        state = SimpleNamespace(global_step=step, num_input_tokens_seen=0)
        callback.on_evaluate(None, state, control, {"eval_cer": cer, "eval_loss": loss})
        return callback.state.best_step

    assert tried(10, 1.0, 3.5) == 10
    assert tried(20, 1.0, 3.1) == 20
    assert tried(30, 0.5, 3.4) == 30
    assert tried(40, 0.6, 2.0) == 30
    assert not control.should_training_stop
    assert tried(50, 0.5, 3.6) == 30
    assert control.should_training_stop
