"""What is remembered of each row while a dataset is read: numbers alone, 45 bytes a row."""

from __future__ import annotations

import unicodedata
from array import array
from hashlib import blake2b

from finetune.content.facts import SPLITS
from finetune.formats.kinds import View


def hash64(text: str) -> int:
    """The same on every machine and in every year: versions are compared by it."""
    digest = blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def hash64_bytes(content: bytes) -> int:
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "little")


def normalised(text: str) -> str:
    """The text as duplicates are looked for: composed, in small letters, white space as one."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return " ".join(text.split()).casefold()


class Columns:
    """One number a row and column; hashes are of 64 bits."""

    def __init__(self) -> None:
        self.exact = array("Q")  # of the stored line
        self.whole = array("Q")  # of prompt and answer, normalised
        self.prompt = array("Q")  # of the prompt, normalised
        self.group = array("Q")
        self.tokens = array("I")
        self.lines = array("I")
        self.given = array("B")  # the split that the source gives, 0 where it gives none
        self.named = False  # whether any group was named by the source

    def __len__(self) -> int:
        return len(self.lines)

    def add(self, *, line: int, stored: bytes, view: View, group: str, split: str) -> None:
        """`group` is "" where nobody named one: then the conversation's beginning is it."""
        prompt = normalised(view.prompt)
        asked = hash64(prompt)
        self.exact.append(hash64_bytes(stored))
        # A text to go on with has no answer: it is all there is.
        whole = hash64(f"{prompt}\x1f{normalised(view.answer)}") if view.answer else asked
        self.whole.append(whole)
        self.prompt.append(asked)
        if group:
            self.named = True
            self.group.append(hash64(f"group\x1f{group}"))
        elif view.group is view.prompt:
            self.group.append(asked)
        else:
            self.group.append(hash64(normalised(view.group)))
        self.lines.append(line)
        self.given.append(SPLITS.get(split, 0))
