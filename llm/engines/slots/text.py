"""From tokens to text, a token at a time: whole characters only, nothing a stop may still take."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

# What a decoder puts where bytes are no (or not yet a) character.
BROKEN = "\ufffd"
# Tokens that are decoded anew with each further one; longer where the last character is not whole,
# but not without end: bytes that are none to this day will be none.
WINDOW, LONGEST_WINDOW = 16, 32
# Tokens of the prompt that are decoded along, so that the first word keeps the space before it.
CONTEXT = 6


class TokenTexts:
    """Tells the text and bytes of single tokens, and decodes runs of them."""

    def __init__(self, tokenizer: Any) -> None:
        backend = tokenizer.backend_tokenizer if tokenizer.is_fast else None
        self._tokenizer = tokenizer
        self._decode = backend.decode if backend else tokenizer.decode
        decoder = json.loads(backend.to_str())["decoder"] if backend else None
        self._byte_level = "ByteLevel" in json.dumps(decoder)
        self._bytes_of = _bytes_of_characters()
        # Not part of any text: they begin, end and fill sequences.
        named = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
        self.silent = {token for token in named if token is not None}
        self._added = set(tokenizer.get_added_vocab().values())

    def decode(self, tokens: Sequence[int]) -> str:
        kept = [token for token in tokens if token not in self.silent]
        return self._decode(kept, skip_special_tokens=False) if kept else ""

    def single(self, token: int) -> tuple[str, bytes]:
        """(text, bytes) of one token as it stands within a text, its leading space included."""
        piece = self._tokenizer.convert_ids_to_tokens(token)
        if piece is None:
            # Vocabularies are often padded to a round number beyond the tokenizer's.
            return "", b""
        if token in self._added:
            return piece, piece.encode()
        if self._byte_level:
            raw = bytes(self._bytes_of.get(character, 63) for character in piece)
        elif len(piece) == 6 and piece.startswith("<0x"):
            raw = bytes([int(piece[3:5], 16)])
        else:
            raw = piece.replace("\u2581", " ").encode()
        return raw.decode(errors="replace"), raw


class TextStream:
    """One answer's text as it grows; constant work a token.

    A window of the last tokens is decoded anew with each: spaces depend on what stands before
    them, and characters may be spread over several.
    """

    def __init__(self, texts: TokenTexts, prompt: Sequence[int], stops: Sequence[str]) -> None:
        self._texts = texts
        # Tokens that are decoded together, and what of their text has been dealt with.
        self._window = [token for token in prompt[-LONGEST_WINDOW:] if token not in texts.silent]
        self._known = ""
        self._shorten()
        self._stops = tuple(stop for stop in stops if stop)
        # Decoded, but perhaps the beginning of a stop.
        self._held = ""
        # Characters that have been let through.
        self.length = 0
        self.stopped: str | None = None

    @property
    def decoded(self) -> int:
        """Characters so far, those included that are held back."""
        return self.length + len(self._held)

    def add(self, token: int) -> str:
        """The text that is now certain; `stopped` is set once a stop has come."""
        if token in self._texts.silent:
            return ""
        self._window.append(token)
        text = self._texts.decode(self._window)
        whole = text.rstrip(BROKEN)
        too_long = len(self._window) > LONGEST_WINDOW
        fresh = (text if too_long else whole)[len(self._known) :]
        if too_long or (text == whole and len(self._window) > WINDOW):
            self._shorten()
        elif fresh:
            self._known = whole
        return self._pass(fresh) if fresh else ""

    def finish(self) -> str:
        """What was still held back, at the end of an answer that no stop ended."""
        rest = self._texts.decode(self._window)[len(self._known) :]
        passed = self._pass(rest)
        if self.stopped is None:
            passed, self._held, held = passed + self._held, "", len(self._held)
            self.length += held
        return passed

    def _shorten(self) -> None:
        """Leaves as few tokens in the window as tell the spaces before the next one.

        They begin with a whole character: decoders make one broken byte of a run break them all.
        """
        for size in range(min(CONTEXT, len(self._window)), len(self._window) + 1):
            tail = self._window[len(self._window) - size :]
            text = self._texts.decode(tail)
            if BROKEN not in text:
                break
        else:
            tail = self._window[-CONTEXT:]
            text = self._texts.decode(tail)
        self._window, self._known = tail, text

    def _pass(self, fresh: str) -> str:
        """Lets through what no stop can take any more."""
        text = self._held + fresh
        if not self._stops:
            self.length += len(text)
            return text
        found = [(text.find(stop), stop) for stop in self._stops if stop in text]
        if found:
            at, self.stopped = min(found, key=lambda pair: (pair[0], -len(pair[1])))
            text, self._held = text[:at], ""
        else:
            held = max(_overlap(text, stop) for stop in self._stops)
            text, self._held = text[: len(text) - held], text[len(text) - held :]
        self.length += len(text)
        return text


def _overlap(text: str, stop: str) -> int:
    """How many of the text's last characters are the beginning of the stop."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if stop.startswith(text[-size:]):
            return size
    return 0


def _bytes_of_characters() -> dict[str, int]:
    """How byte-level BPE writes bytes: printable ones as themselves, the others from U+0100 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    found = {chr(byte): byte for byte in printable}
    found.update({chr(256 + at): byte for at, byte in enumerate(others)})
    return found
