"""What a recogniser tells apart, and text as numbers of its classes and back."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

BLANK = 0


def line_text(text: str) -> str:
    """A line as it is learnt: composed, any white space as one space, none at the ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())


@dataclass(frozen=True, slots=True)
class Alphabet:
    """The characters in the order of their classes; class 0 is CTC's blank."""

    characters: str

    @classmethod
    def of(cls, texts: Iterable[str]) -> Alphabet:
        """Those that occur, in the order of their code points."""
        return cls("".join(sorted(set().union(*map(set, texts)))))

    @property
    def classes(self) -> int:
        return len(self.characters) + 1

    def missing(self, texts: Iterable[str]) -> Counter[str]:
        """The characters that it lacks, each with the number of lines it is in."""
        known = set(self.characters)
        return Counter(letter for text in texts for letter in set(text) - known)

    def encode(self, text: str) -> list[int]:
        """Raises KeyError for a character that it lacks."""
        places = {letter: place for place, letter in enumerate(self.characters, 1)}
        return [places[letter] for letter in text]

    def decode(self, steps: Sequence[int]) -> str:
        """The best path of CTC: repeats merged, blanks dropped (Graves et al. 2006)."""
        before, found = BLANK, []
        for step in steps:
            if step not in (before, BLANK):
                found.append(self.characters[step - 1])
            before = step
        return "".join(found)


def steps_needed(text: str) -> int:
    """Steps that CTC can't do without: one a character, one more between two alike."""
    return len(text) + sum(one == other for one, other in pairwise(text))
