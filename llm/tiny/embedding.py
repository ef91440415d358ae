"""An encoder whose vectors are near where texts share words."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from string import ascii_lowercase
from typing import Any

from llm.tiny.vocabulary import END, PAD, START, bpe
from ocr.engines.torch_library import import_torch

# All of Hangul's syllables: without tokens of their own they share bytes with one another.
_HANGUL = range(0xAC00, 0xD7A4)


def embedding_model(folder: Path, *, hidden: int = 98, vocab: int = 32768, seed: int = 0) -> Path:
    """A BERT that is a bag of words: mean-pool its last states, or let sentence-transformers do it.

    Nothing is trained. Each token has a random direction, as long as its text, and the one layer
    hands it through: what attention and feed-forward would add is multiplied by zero, and so are
    positions. Two constants in the embedding, that the last normalisation drops, keep the
    normalisations from making all tokens equally long. So the cosine of two texts is about the
    share of words, or pieces of words, that they have in common.
    """
    torch = import_torch()
    transformers = importlib.import_module("transformers")
    tokenizers = importlib.import_module("tokenizers")
    backend = bpe(vocab, merges=_merges())
    backend.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.NFC(), tokenizers.normalizers.Lowercase()]
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        additional_special_tokens=[START, END],
        model_max_length=512,
    )
    config = transformers.BertConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=hidden,
        max_position_embeddings=512,
        type_vocab_size=1,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = transformers.BertModel(config).eval()
        embeddings, layer = model.embeddings, model.encoder.layer[0]
        embeddings.position_embeddings.weight.zero_()
        embeddings.token_type_embeddings.weight.zero_()
        embeddings.word_embeddings.weight.copy_(_directions(torch, backend, vocab, hidden))
        for added in (layer.attention.output.dense, layer.output.dense):
            added.weight.zero_()
            added.bias.zero_()
        layer.output.LayerNorm.weight[-2:] = 0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _directions(torch: Any, backend: Any, vocab: int, hidden: int) -> Any:
    """A row a token: a random direction as long as the token's text, then the two constants."""
    weights = torch.zeros(vocab, 1)
    special = {PAD, START, END}
    for token, place in backend.get_vocab().items():
        if token not in special:
            # A lone byte says little; a space or a mark says nothing.
            text = backend.decode([place]).strip()
            weights[place] = float(len(text)) if text.isalnum() else 0.05
    rows = torch.randn(vocab, hidden - 2)
    rows -= rows.mean(dim=1, keepdim=True)
    rows *= weights / rows.norm(dim=1, keepdim=True)
    constants = torch.tensor([100.0, -100.0]).expand(vocab, 2)
    return torch.cat([rows, constants], dim=1)


def _merges() -> Iterator[tuple[str, str]]:
    """Hangul's syllables out of their bytes, then pairs and threes of letters."""
    alphabet = _byte_alphabet()
    for code in _HANGUL:
        first, second, third = (alphabet[byte] for byte in chr(code).encode())
        yield first, second
        yield first + second, third
    pairs = [left + right for left, right in product(ascii_lowercase, repeat=2)]
    yield from product(ascii_lowercase, repeat=2)
    yield from product(pairs, ascii_lowercase)


def _byte_alphabet() -> dict[int, str]:
    """The characters that byte-level vocabularies write bytes with (GPT-2's table)."""
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printed]
    table = {byte: chr(byte) for byte in printed}
    return table | {byte: chr(256 + place) for place, byte in enumerate(others)}
