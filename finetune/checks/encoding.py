"""Trouble with characters: what a wrong encoding leaves behind, and what nobody can see."""

from __future__ import annotations

import re
import unicodedata

from finetune.formats.base import Trouble

# C0 and C1 but for tab, line feed and carriage return; U+2028 and U+2029, which break lines.
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]")
# UTF-8's lead bytes as Windows-1252 or Latin-1 shows them, and a byte that follows them.
_TAIL = (
    "\u0080-\u00bf\u20ac\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\u017d"
)
_TAIL += "\u2018\u2019\u201c\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\u017e\u0178"
_SEQUENCE = (
    f"(?:[\u00c2-\u00df][{_TAIL}]|[\u00e0-\u00ef][{_TAIL}]{{2}}|[\u00f0-\u00f4][{_TAIL}]{{3}})"
)
SEQUENCE, AS_LATIN = re.compile(_SEQUENCE), re.compile(f"{_SEQUENCE}+")
# One character alone is damage for certain only where no language writes it so: a capital letter
# with an accent may well stand before a closing quote.
ALONE = re.compile(
    "[\u00c2\u00c3][\u0080-\u00aa\u00ac-\u00ba\u00bc-\u00bf]|\u00e2\u20ac|\u00f0\u0178"
)
# Korean in CP949, read as Latin-1: runs of high letters.
AS_KOREAN = re.compile(
    "[\u00b0-\u00c8\u00a1-\u00af][\u00a1-\u00fe](?:[\u00a1-\u00fe]{2}|[ .,0-9])+"
)
REPLACEMENT = "\ufffd"


def text_troubles(field: str, text: str) -> list[Trouble]:
    """Each kind of trouble at most once, at its first place."""
    if text.isascii() and text.isprintable():
        return []
    found = []
    if match := CONTROL.search(text):
        place = f"U+{ord(match[0]):04X} at character {match.start() + 1}"
        found.append(Trouble("control", field, f"{place}."))
    if text.isascii():
        return found
    if REPLACEMENT in text:
        at = text.index(REPLACEMENT)
        found.append(Trouble("replacement", field, f"U+FFFD in {_around(text, at)!r}."))
    if damaged := mojibake(text):
        bad, good = damaged
        found.append(Trouble("mojibake", field, f"'{bad}' was probably '{good}'."))
    if not unicodedata.is_normalized("NFC", text):
        found.append(Trouble("normalisation", field, "The text is not in composed form (NFC)."))
    return found


def mojibake(text: str) -> tuple[str, str] | None:
    """(what stands there, what was probably meant) of the first damaged place."""
    for match in AS_KOREAN.finditer(text):
        run = match[0].strip()
        try:
            meant = run.encode("latin-1").decode("cp949")
        except UnicodeError:
            continue
        letters = [char for char in meant if not char.isascii()]
        if len(letters) >= 2 and all("가" <= char <= "힣" for char in letters):
            return run, meant
    for match in AS_LATIN.finditer(text):
        run = match[0]
        certain = ALONE.match(run) or len(SEQUENCE.findall(run)) > 1
        if certain and (meant := _again(run, "cp1252") or _again(run, "latin-1")):
            return run, meant
    return None


def _again(damaged: str, encoding: str) -> str:
    """The text as UTF-8 would have had it; "" where it can't have been that."""
    try:
        meant = damaged.encode(encoding).decode("utf-8")
    except UnicodeError:
        return ""
    return meant if meant != damaged else ""


def _around(text: str, at: int) -> str:
    return text[max(0, at - 12) : at + 12]
