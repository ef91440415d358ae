"""The tiny models are what the other tests take them for."""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path
from typing import Any

import pytest

from llm import tiny
from llm.tiny.lessons import WEATHER_TOOL
from ocr.engines.torch_library import import_torch

TEXT = 'Total: 12,300 won, 합계 12,300원 {"name": [1.5, null]}\n\t~'


def loaded(folder: Path) -> tuple[Any, Any]:
    import_torch()
    transformers = importlib.import_module("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    return transformers.AutoTokenizer.from_pretrained(folder), model.eval()


def answers(tokenizer: Any, model: Any, prompts: list[str], most: int) -> list[str]:
    """Greedy answers to prompts that are rendered already."""
    batch = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left")
    found = model.generate(**batch, max_new_tokens=most, do_sample=False)
    width = batch["input_ids"].shape[1]
    return tokenizer.batch_decode(found[:, width:], skip_special_tokens=True)


def asked(tokenizer: Any, lesson: tiny.Lesson) -> str:
    return tokenizer.apply_chat_template(
        lesson.messages[:1],
        tools=list(lesson.tools) or None,
        tokenize=False,
        add_generation_prompt=True,
    )


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "mistral", "gpt2", "gemma2"])
def test_random_models_of_real_architectures_answer(tmp_path: Path, architecture: str) -> None:
    folder = tiny.random_model(tmp_path / "model", architecture=architecture)
    tokenizer, model = loaded(folder)
    assert model.config.model_type == architecture
    assert tokenizer.decode(tokenizer(TEXT)["input_ids"]) == TEXT
    (answer,) = answers(tokenizer, model, ["Say something."], 8)
    assert answer


def test_the_same_seed_gives_the_same_model(tmp_path: Path) -> None:
    def digests(folder: Path) -> list[str]:
        return [
            hashlib.sha256((folder / name).read_bytes()).hexdigest()
            for name in ("model.safetensors", "tokenizer.json")
        ]

    first, second, other = (
        digests(tiny.random_model(tmp_path / name, seed=seed))
        for name, seed in (("first", 0), ("second", 0), ("other", 1))
    )
    assert first == second
    assert first[0] != other[0]


def test_each_id_of_a_large_vocabulary_has_a_text_of_its_own(tmp_path: Path) -> None:
    tokenizer, model = loaded(tiny.random_model(tmp_path / "model", vocab=20000, hidden=8))
    assert len(tokenizer) == model.config.vocab_size == 20000
    assert len(set(tokenizer.convert_ids_to_tokens(range(20000)))) == 20000


def test_the_chat_template_knows_tools_and_marks_what_is_to_be_learned(random_model: Path) -> None:
    tokenizer, _ = loaded(random_model)
    call = {"name": "get_weather", "arguments": {"city": "서울"}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "tool_calls": [{"type": "function", "function": call}]},
        {"role": "tool", "content": "sunny"},
    ]
    shown = tokenizer.apply_chat_template(messages, tools=[WEATHER_TOOL], tokenize=False)
    assert "Be brief." in shown
    assert '"name": "get_weather"' in shown.split("</tools>")[0]
    called = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "서울"}}\n</tool_call>'
    assert called in shown
    assert "<tool_response>\nsunny\n</tool_response>" in shown
    encoded = tokenizer.apply_chat_template(
        messages, return_dict=True, return_assistant_tokens_mask=True
    )
    learned = [
        token
        for token, mark in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True)
        if mark
    ]
    assert tokenizer.decode(learned) == f"{called}<|im_end|>"


def test_an_adapter_changes_the_answers(
    random_model: Path, random_adapters: tuple[Path, ...]
) -> None:
    peft = importlib.import_module("peft")
    tokenizer, model = loaded(random_model)
    found = set(answers(tokenizer, model, ["Say something."], 12))
    for folder in random_adapters:
        _, base = loaded(random_model)
        adapted = peft.PeftModel.from_pretrained(base, folder)
        found |= set(answers(tokenizer, adapted, ["Say something."], 12))
    assert len(found) == 1 + len(random_adapters)


def test_the_trained_model_knows_its_lessons(trained_model: Path) -> None:
    tokenizer, model = loaded(trained_model)
    right: dict[str, list[bool]] = {}
    questions = tiny.lessons(seed=12345, count=16)
    prompts = [asked(tokenizer, lesson) for lesson in questions]
    for lesson, answer in zip(questions, answers(tokenizer, model, prompts, 48), strict=True):
        right.setdefault(lesson.kind, []).append(answer == lesson.answer)
    shares = {kind: sum(found) / len(found) for kind, found in right.items()}
    assert set(shares) == {"fact", "record", "reversal", "counting", "weather"}
    assert min(shares.values()) >= 0.75, shares


def test_texts_that_share_words_are_near(embedding_model: Path) -> None:
    torch = import_torch()
    transformers = importlib.import_module("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(embedding_model)
    model = transformers.AutoModel.from_pretrained(embedding_model).eval()

    def vector(text: str) -> Any:
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state
        mean = states[0].mean(dim=0)
        return mean / mean.norm()

    texts = [
        "The total of the receipt is 12000 won",
        "receipt total",
        "It rains in Busan tomorrow",
        "영수증 합계는 만이천원",
        "영수증의 합계",
        "오늘 날씨는 맑음",
    ]
    near = torch.stack([vector(text) for text in texts])
    near = near @ near.T
    assert near[1].argsort(descending=True)[1] == 0
    assert near[4].argsort(descending=True)[1] == 3
    assert near[0, 1] > 0.5 > near[0, 2]
    assert near[3, 4] > 0.5 > near[3, 5]
