"""Embeddings: pooled under the mask, of unit length, whatever else is in the batch."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llm.engines.base import GenerationRequest, LoadedModel
from mlops.exceptions import ApplicationError
from ocr.engines.torch_library import import_torch
from tests.llm.engine_runs import GREEDY, Reference, load, run_one, start

TEXTS = ["합계 12,000원", "The total is twelve thousand won.", "a", "word " * 60, "합계 12,000원"]


@pytest.fixture(scope="module")
def encoder(embedding_model: Path) -> Iterator[LoadedModel]:
    served = load(embedding_model)
    yield served
    served.close()


def expected(folder: Path, text: str, pooling: str) -> np.ndarray:
    """What the library's model says of one text alone."""
    torch = import_torch()
    transformers = importlib.import_module("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
    vector = {"mean": states.mean(0), "cls": states[0], "last": states[-1]}[pooling]
    return (vector / vector.norm()).numpy()


def test_each_text_s_vector_is_its_own(encoder: LoadedModel, embedding_model: Path) -> None:
    found = encoder.embed(TEXTS)
    assert found.tokens == sum(encoder.count(text) for text in TEXTS)
    for text, vector in zip(TEXTS, found.vectors, strict=True):
        assert len(vector) == 98
        assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)
        assert np.allclose(vector, expected(embedding_model, text, "mean"), atol=1e-5)
    near, far = (float(np.dot(found.vectors[0], found.vectors[at])) for at in (4, 1))
    assert near == pytest.approx(1.0, abs=1e-5)
    assert far < 0.5


@pytest.mark.parametrize("pooling", ["cls", "last"])
def test_pooling_is_as_asked_or_as_the_folder_says(
    embedding_model: Path, tmp_path: Path, pooling: str
) -> None:
    folder = Path(shutil.copytree(embedding_model, tmp_path / "model"))
    names = {"cls": "pooling_mode_cls_token", "last": "pooling_mode_lasttoken"}
    said = {name: name == names[pooling] for name in (*names.values(), "pooling_mode_mean_tokens")}
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(said))
    for made, wanted in (
        (load(folder), pooling),
        (load(embedding_model, options={"pooling": pooling}), pooling),
        (load(folder, options={"pooling": "mean"}), "mean"),
    ):
        vector = made.embed([TEXTS[0], TEXTS[3]]).vectors[0]
        made.close()
        assert np.allclose(vector, expected(embedding_model, TEXTS[0], wanted), atol=1e-5)


@pytest.mark.parametrize("shape", ["llama", "mistral", "gpt2"])
def test_models_that_generate_embed_as_well(
    shared_folder: Any, random_model: Path, shape: str
) -> None:
    from llm import tiny

    folder = random_model
    if shape != "llama":
        config: dict[str, Any] = {"sliding_window": 8} if shape == "mistral" else {}
        folder = shared_folder(
            f"embedding-{shape}",
            lambda folder: tiny.random_model(folder, architecture=shape, **config),
        )
    model = load(folder)
    run = start(model, GenerationRequest("beside", prompt="Total", sampling=GREEDY))
    try:
        found = model.embed(TEXTS[:4])
        assert run.finish().usage.completion == 24
        for text, vector in zip(TEXTS, found.vectors, strict=False):
            assert np.allclose(vector, expected(folder, text, "mean"), atol=1e-4)
    finally:
        model.close()


def test_tokens_do_as_well_as_texts(encoder: LoadedModel, embedding_model: Path) -> None:
    tokenizer = importlib.import_module("transformers").AutoTokenizer.from_pretrained(
        embedding_model
    )
    tokens = tokenizer(TEXTS[0])["input_ids"]
    by_text, by_tokens = encoder.embed([TEXTS[0], tokens]).vectors
    assert np.array_equal(by_text, by_tokens)


def test_what_can_t_be_embedded_is_refused(encoder: LoadedModel) -> None:
    for texts, code in ((["word " * 600], "context_length_exceeded"), (["a", ""], "empty_input")):
        with pytest.raises(ApplicationError) as caught:
            encoder.embed(texts)
        assert (caught.value.code, caught.value.status) == (code, 400)
    with pytest.raises(ApplicationError, match="makes embeddings, no text"):
        run_one(encoder, GenerationRequest("one", prompt="a", sampling=GREEDY))


def test_a_closed_model_says_so(embedding_model: Path) -> None:
    model = load(embedding_model)
    model.close()
    with pytest.raises(ApplicationError) as caught:
        model.embed(["a"])
    assert (caught.value.code, caught.value.status) == ("model_unloaded", 503)


def test_reference_and_engine_count_alike(encoder: LoadedModel, random_model: Path) -> None:
    model = load(random_model)
    try:
        for text in TEXTS:
            wanted = Reference(random_model).tokenizer(text, add_special_tokens=False)
            assert model.count(text) == len(wanted["input_ids"])
    finally:
        model.close()
