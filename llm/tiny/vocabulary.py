"""Byte-level BPE tokenizers, trained in a moment on text made here."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from itertools import product
from string import ascii_lowercase, ascii_uppercase
from typing import Any

from llm.tiny.lessons import corpus

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
# Tokens of their own, as in Qwen's vocabulary, but text all the same.
_MARKS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")

# ChatML; tools in the form of Hermes and Qwen. The generation marks tell trainers what to learn.
CHAT_TEMPLATE = """\
{%- if tools %}
{{- '<|im_start|>system\\n' }}
{%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
{{- '# Tools\\n<tools>' }}
{%- for tool in tools %}{{- '\\n' + (tool | tojson) }}{%- endfor %}
{{- '\\n</tools>\\nCall one as <tool_call>\\n{"name": ..., "arguments": ...}\\n</tool_call>' }}
{{- '<|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message.role == 'assistant' %}
{{- '<|im_start|>assistant\\n' }}
{%- generation %}
{{- message.content or '' }}
{%- for call in message.tool_calls or [] %}
{%- set called = call.function or call %}
{{- '\\n' if not loop.first or message.content else '' }}
{{- '<tool_call>\\n{"name": "' + called.name + '", "arguments": ' }}
{{- called.arguments if called.arguments is string else called.arguments | tojson }}
{{- '}\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>' }}
{%- endgeneration %}
{{- '\\n' }}
{%- elif message.role == 'tool' %}
{{- '<|im_start|>user\\n<tool_response>\\n' + message.content }}
{{- '\\n</tool_response><|im_end|>\\n' }}
{%- elif message.role != 'system' or not loop.first %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""


def bpe(size: int, *, merges: Iterator[tuple[str, str]] | None = None) -> Any:
    """A `tokenizers.Tokenizer` of exactly `size` tokens, special ones included.

    What the text gives no merges for is filled up with `merges`, by default made-up ones, so that
    each id of a large vocabulary has a text of its own, as in real ones. Digits stay apart.
    """
    tokenizers = importlib.import_module("tokenizers")
    special = [PAD, START, END]
    room = size - len(special) - len(_MARKS)
    learned = _plain(tokenizers, tokenizers.models.BPE())
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=min(room, 4000),
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    learned.train_from_iterator(corpus(), trainer)
    model = json.loads(learned.to_str())["model"]
    vocabulary = model["vocab"]
    pairs = [(left, right) for left, right in model["merges"]]
    for left, right in merges or _made_up():
        if len(vocabulary) >= room:
            break
        if left + right not in vocabulary:
            vocabulary[left + right] = len(vocabulary)
            pairs.append((left, right))
    filled = _plain(tokenizers, tokenizers.models.BPE(vocab=vocabulary, merges=pairs))
    filled.add_special_tokens(special)
    filled.add_tokens([tokenizers.AddedToken(mark, normalized=False) for mark in _MARKS])
    return filled


def chat_tokenizer(size: int) -> Any:
    """The tokenizer of transformers around `bpe`, with the chat template."""
    transformers = importlib.import_module("transformers")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe(size),
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[START],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def _plain(tokenizers: Any, model: Any) -> Any:
    plain = tokenizers.Tokenizer(model)
    plain.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Digits(individual_digits=True),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    plain.decoder = tokenizers.decoders.ByteLevel()
    return plain


def _made_up() -> Iterator[tuple[str, str]]:
    """Pairs of letters, then three, then four: each made of one that came before and a letter."""
    # "Ġ" stands for the space in byte-level vocabularies.
    stems = list("Ġ" + ascii_uppercase + ascii_lowercase)
    while True:
        yield from product(stems, ascii_lowercase)
        stems = [left + right for left, right in product(stems, ascii_lowercase)]
