"""Language models of real architectures, small enough to be made within a test."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from llm.tiny.lessons import Lesson, lessons
from llm.tiny.vocabulary import PAD, chat_tokenizer
from ocr.engines.torch_library import import_torch

_STEPS, _ROWS, _RATE = 400, 200, 2e-3
# Rows of a batch by kind; what is harder to learn comes more often.
_SHARES = {"fact": 4, "record": 5, "reversal": 4, "counting": 3}


def random_model(
    folder: Path,
    *,
    architecture: str = "llama",
    hidden: int = 64,
    layers: int = 2,
    heads: int = 4,
    kv_heads: int = 2,
    intermediate: int | None = None,
    vocab: int = 1024,
    context: int = 2048,
    seed: int = 0,
    dtype: str = "float32",
    **config: Any,
) -> Path:
    """A folder as `save_pretrained` writes it, with random weights and a chat template.

    `architecture` is transformers' `model_type`: llama, qwen2, qwen3, mistral, gemma2, gpt2 …;
    `config` goes to its configuration. Weights are wider spread than in training's beginning, so
    that the likeliest token is so by a clear margin. The same arguments give the same bytes.
    """
    torch = import_torch()
    transformers = importlib.import_module("transformers")
    tokenizer = chat_tokenizer(vocab)
    sizes: dict[str, Any] = {
        "vocab_size": vocab,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": context,
        "initializer_range": 0.1,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if architecture != "gpt2":
        sizes |= {
            "num_key_value_heads": kv_heads,
            "intermediate_size": intermediate or 8 * hidden // 3,
            "head_dim": hidden // heads,
        }
    made = transformers.AutoConfig.for_model(architecture, **(sizes | config))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(made)
    _save(model.to(getattr(torch, dtype)), tokenizer, folder)
    return folder


def trained_model(
    folder: Path,
    *,
    seed: int = 0,
    threads: int = 1,
    log: Callable[[str], None] = lambda line: None,
) -> Path:
    """A Llama of 0.8 million weights that has learned its `lessons`, in well under a minute.

    Greedy answers to questions of the same kinds, of other values too, are right. `threads` are
    torch's: of two, one that has to wait for a busy core holds up the other at every step.
    """
    torch = import_torch()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        _train(torch, folder, seed, log)
    finally:
        torch.set_num_threads(before)
    return folder


def _train(torch: Any, folder: Path, seed: int, log: Callable[[str], None]) -> None:
    transformers = importlib.import_module("transformers")
    sizes = {"hidden": 128, "layers": 3, "kv_heads": 4, "intermediate": 224, "vocab": 1280}
    random_model(folder, **sizes, seed=seed, initializer_range=0.02)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=_RATE, betas=(0.9, 0.98), weight_decay=0.01
    )
    random = Random(seed)
    kinds: dict[str, list[tuple[list[int], int]]] = {}
    for lesson in lessons(seed, _ROWS):
        kinds.setdefault(lesson.kind, []).append(_row(tokenizer, lesson))
    pad = tokenizer.convert_tokens_to_ids(PAD)
    model.train()
    for step in range(_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * min(1.0, (step + 1) / 30) * _cosine(step / _STEPS)
        # Rows with tools are ten times as long as the others: batches of their own, now and then.
        shares = {"weather": 6} if step % 6 == 5 else _SHARES
        batch = [
            row for kind, share in shares.items() for row in random.choices(kinds[kind], k=share)
        ]
        ids, labels = _padded(torch, batch, pad)
        states = model.model(input_ids=ids, attention_mask=(ids != pad).long()).last_hidden_state
        # The vocabulary is a fifth of the work: scores where there is something to learn, only.
        learned = labels[:, 1:] != -100
        loss = torch.nn.functional.cross_entropy(
            model.lm_head(states[:, :-1][learned]), labels[:, 1:][learned]
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0 or step == _STEPS - 1:
            log(f"step {step + 1} of {_STEPS}, loss {loss.item():.3f}")
    _save(model.eval(), tokenizer, folder)


def lora_adapter(folder: Path, base: Path, *, seed: int = 0, rank: int = 8) -> Path:
    """A LoRA adapter of peft's form with random weights, so that answers differ from the base's."""
    torch = import_torch()
    transformers = importlib.import_module("transformers")
    peft = importlib.import_module("peft")
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = peft.LoraConfig(
            r=rank,
            lora_alpha=2 * rank,
            target_modules="all-linear",
            init_lora_weights=False,
            task_type="CAUSAL_LM",
        )
        peft.get_peft_model(model, config).save_pretrained(folder)
    return folder


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    model.generation_config.update(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _row(tokenizer: Any, lesson: Lesson) -> tuple[list[int], int]:
    """The tokens of prompt and answer, and how many are the prompt's."""
    tools = [dict(tool) for tool in lesson.tools] or None
    whole = tokenizer.apply_chat_template(lesson.messages, tools=tools, tokenize=False)
    prompt = tokenizer.apply_chat_template(
        lesson.messages[:1], tools=tools, tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(whole.rstrip("\n"), add_special_tokens=False)["input_ids"]
    return ids, len(tokenizer(prompt, add_special_tokens=False)["input_ids"])


def _padded(torch: Any, rows: list[tuple[list[int], int]], pad: int) -> tuple[Any, Any]:
    """Tokens, and the same as labels with all but the answers left out."""
    width = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), width), pad)
    labels = torch.full((len(rows), width), -100)
    for place, (row, start) in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row)
        labels[place, start : len(row)] = ids[place, start : len(row)]
    return ids, labels


def _cosine(done: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * done))
