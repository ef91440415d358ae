"""The way from anywhere in a grammar to its end, in few tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# Whether the text stands inside of a JSON string, and behind a backslash there.
Quoted = tuple[bool, bool]

# What closes a string and perhaps what is around it, and what closes the rest or goes on with what
# is still missing.
_QUOTES = (b'"]]', b'"]}', b'"}]', b'"}}', b'"]', b'"}', b'"')
_BRACKETS = (b"]]", b"]}", b"}]", b"}}", b"]", b"}", b",", b":", b"null", b"n")
# From above, as a lower bound is met by one high digit, an upper one leaves only what is allowed.
_DIGITS = [b"%d" % digit for digit in reversed(range(10))]
# In the order in which they are tried outside of strings: the shortest values first, what opens
# something new last.
_VALUES = (
    [*_DIGITS, b'""', b'"', b"true", b"t", b"f", b"[]", b"{}", b"[", b"{"],
    [b'""', b'"', b"[]", b"[", b"{}", b"{", b"true", b"t", b"f", *_DIGITS[::-1]],
)
_TEXT = b"@.:-/_ TZ" + b"0123456789" + bytes(range(97, 123)) + bytes(range(65, 91))


class Endings:
    """Looks for ends with the tokens of one vocabulary that are single bytes, or close something.

    From where it stands it goes on with what closes most, and where nothing can be closed with
    what this value has used least: so it gets out of patterns, which have no other end than through
    the one character that it has not tried yet. That is not always the shortest way, so the values
    are tried in two orders. Where both go round in a circle, as with objects that hold themselves
    unless a certain key is chosen, what was used is remembered from value to value.
    """

    def __init__(self, tokens: Any, ends: Sequence[int], vocab_size: int) -> None:
        """`tokens`: an LLTokenizer, of whose tokens the model knows the first `vocab_size`."""
        self._tokens, self._ends = tokens, tuple(ends)
        self.texts = [tokens.decode_bytes([token]) for token in range(tokens.vocab_size)]
        self._ids: dict[bytes, int] = {}
        for token, text in enumerate(self.texts):
            if text and token < vocab_size and not tokens.is_special_token(token):
                self._ids.setdefault(text, token)
        single = [bytes([byte]) for byte in (*_TEXT, *range(32, 256), *range(32))]
        self._tried = [
            ([*_VALUES[0], *single], single),
            ([*_VALUES[1], *single[::-1]], single[::-1]),
        ]

    def holds(self, matcher: Any, ending: list[int]) -> bool:
        """Whether these tokens still lead to the end from here."""
        whole = [*ending, self._ends[0]]
        return bool(matcher.validate_tokens(whole) == len(whole))

    def orders(self, hint: str, *, json: bool) -> Orders:
        """What is tried in which order; of a string's characters those of `hint` come first.

        A pattern's own characters are what its text is made of, and ended by. Without `json`
        quotes and brackets are characters like all others.
        """
        hinted = [character.encode() for character in dict.fromkeys(hint)]
        tries = []
        for outside, inside in self._tried:
            within = _Order(self._ids, _QUOTES if json else (), [*hinted, *inside])
            tries.append((_Order(self._ids, _BRACKETS, outside) if json else within, within))
        return [(*tries[0], True), (*tries[1], True), (*tries[0], False)]

    def find(
        self, matcher: Any, orders: Orders, *, most: int, state: Quoted = (False, False)
    ) -> list[int] | None:
        """Tokens to the end, at most `most`; None where no such way was found."""
        best: list[int] | None = None
        for *order, anew in orders:
            if best is not None and (not anew or most < 2):
                break
            # The tokenizer makes fewer tokens of the same text.
            found = self._walk(matcher.deep_copy(), state, order, anew, 2 * most + 8)
            if found is not None:
                found = self._shorter(matcher, found)
                if len(found) <= most:
                    best, most = found, len(found) - 1
        return best

    def _shorter(self, matcher: Any, path: list[int]) -> list[int]:
        """The same text in the tokens that the tokenizer makes of it, where they are fewer."""
        text = b"".join(self.texts[token] for token in path)
        made = self._tokens.tokenize_bytes(text)
        return made if len(made) < len(path) and self.holds(matcher, made) else path

    def _walk(
        self, matcher: Any, state: Quoted, order: Sequence[_Order], anew: bool, most: int
    ) -> list[int] | None:
        """Goes on greedily from here, which moves `matcher`; `anew`: counts in each value alone."""
        path: list[int] = []
        used: Counter[int] = Counter()
        while not matcher.is_accepting():
            step = matcher.compute_ff_tokens() or order[state[0]].next(matcher, used)
            if not step or len(path) + len(step) > most or not matcher.consume_tokens(step):
                return None
            before = state[0]
            for token in step:
                state = quoted(self.texts[token], state)
            if anew and (state[0] != before or step[0] in order[before].closing):
                used.clear()
            path += step
        return path


class _Order:
    """The tokens tried: what closes, in this order, then what has been used least."""

    def __init__(
        self, ids: Mapping[bytes, int], closing: Sequence[bytes], others: Sequence[bytes]
    ) -> None:
        texts = [text for text in dict.fromkeys([*closing, *others]) if text in ids]
        self._tokens = np.array([ids[text] for text in texts])
        self.closing = frozenset(ids[text] for text in texts if text in closing)

    def next(self, matcher: Any, used: Counter[int]) -> list[int]:
        """The one token to go on with; none where none of these may follow."""
        bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
        free = bits[self._tokens >> 3] >> (self._tokens & 7) & 1
        allowed = self._tokens[free.astype(bool)].tolist()
        if not allowed:
            # Whatever there is: a character of several bytes that has a token of its own alone.
            return np.flatnonzero(np.unpackbits(bits, bitorder="little"))[:1].tolist()
        if allowed[0] in self.closing:
            return allowed[:1]
        token = min(allowed, key=used.__getitem__)
        used[token] += 1
        return [token]


def quoted(text: bytes, state: Quoted) -> Quoted:
    """The state of `Quoted` behind more text."""
    inside, escaped = state
    for byte in text:
        if escaped:
            escaped = False
        elif byte == 0x5C:
            escaped = inside
        elif byte == 0x22:
            inside = not inside
    return inside, escaped


# For each try what goes on outside of strings, what inside, and whether it counts anew.
Orders = list[tuple[_Order, _Order, bool]]
