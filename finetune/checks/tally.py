"""What a dataset's text is made of: scripts, and lengths in tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from mlops.exceptions import ApplicationError, NotInstalled

HANGUL = re.compile("[\uac00-\ud7a3\u1100-\u11ff\u3130-\u318f]+")
KANA = re.compile("[\u3040-\u30ff]+")
HAN = re.compile("[\u4e00-\u9fff\u3400-\u4dbf]+")
LATIN = re.compile("[A-Za-z\u00c0-\u024f]+")
# As much of a row's text is looked at for its language.
LOOKED_AT = 500


def language_of(text: str) -> str:
    """ko, ja, zh, en (any Latin script) or other, by the script that most characters are of.

    A Hangul syllable says as much as two to three letters do: a fifth of Korean makes a row
    Korean, as in a text about programs whose names are English.
    """
    text = text[:LOOKED_AT]
    if text.isascii():
        return "en" if LATIN.search(text) else "other"
    hangul, kana, han, latin = (_count(script, text) for script in (HANGUL, KANA, HAN, LATIN))
    letters = hangul + kana + han + latin
    if not letters:
        return "other"
    if hangul >= letters / 5:
        return "ko"
    if kana >= letters / 10:
        return "ja"
    if han >= letters / 5:
        return "zh"
    return "en" if latin >= letters / 2 else "other"


def _count(script: re.Pattern[str], text: str) -> int:
    return sum(map(len, script.findall(text)))


class TokenCounter(Protocol):
    """`name` is "" where the count is approximate."""

    name: str

    def count(self, texts: Sequence[str]) -> list[int]: ...


class ApproximateTokens:
    """About four ASCII characters a token, and three of another script for two tokens.

    Byte-pair tokenizers of today lie within a third of it, either way.
    """

    name = ""

    def count(self, texts: Sequence[str]) -> list[int]:
        return [_approximate(text) for text in texts]


def _approximate(text: str) -> int:
    if text.isascii():
        return len(text) // 4 + 1
    # Other scripts take two bytes a character, most of them three.
    wide = (len(text.encode("utf-8", "replace")) - len(text)) / 1.9
    return int((len(text) - wide) / 4 + wide * 2 / 3) + 1


class NamedTokenizer:
    """Counts with a tokenizer.json: of a folder, a file, or a hub's model. Without the template."""

    def __init__(self, name: str) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise NotInstalled(
                f"{error}. Install it: pip install -r requirements/llm.txt"
            ) from error
        self.name = name
        path = Path(name)
        if path.is_dir():
            path = path / "tokenizer.json"
        try:
            # The library raises a bare Exception for whatever goes wrong.
            self._tokenizer = (
                Tokenizer.from_file(str(path)) if path.exists() else Tokenizer.from_pretrained(name)
            )
        except Exception as error:
            raise ApplicationError(
                f"No tokenizer could be read from '{name}': {error}. Give a folder that holds "
                "tokenizer.json, that file, or the name of a model on a hub within reach.",
                code="unknown_tokenizer",
                param="tokenizer",
            ) from error

    def count(self, texts: Sequence[str]) -> list[int]:
        read = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [len(one.ids) for one in read]


def token_counter(tokenizer: str) -> TokenCounter:
    return NamedTokenizer(tokenizer) if tokenizer else ApproximateTokens()
