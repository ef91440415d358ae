"""Prompt lookup: what follows is guessed from where the last tokens stood before.

After Saxena's prompt lookup decoding (2023). A guess is checked by the model in the same step, so
the answer is the one that it would have given anyway.
"""

from __future__ import annotations

from collections.abc import Sequence

# So many last tokens must have stood together before.
KEY = 3


class Lookup:
    """Guesses for one answer, longer while they come true; constant work a token."""

    def __init__(self, most: int) -> None:
        """`most`: tokens guessed at a time."""
        self._most = self._size = most
        self._places: dict[tuple[int, ...], int] = {}
        self._indexed = 0

    def guess(self, tokens: Sequence[int], most: int) -> list[int]:
        """At most `most` tokens that followed where the last ones stood before; often none."""
        # The end itself is left out: nothing follows it yet.
        for at in range(self._indexed, len(tokens) - KEY):
            self._places[tuple(tokens[at : at + KEY])] = at + KEY
        self._indexed = max(self._indexed, len(tokens) - KEY)
        after = self._places.get(tuple(tokens[-KEY:]))
        if after is None:
            return []
        return list(tokens[after : after + min(self._size, most)])

    def learn(self, guessed: int, right: int) -> None:
        """How many of the guessed tokens came true."""
        if guessed:
            self._size = min(self._most, 2 * right + 1)
