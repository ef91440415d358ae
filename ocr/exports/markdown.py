"""md: headings, paragraphs and tables as the layout shows them, a rule between two pages."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import BinaryIO

from ocr.exports.page import JobPages, PageBlock, PageLine, PageText
from ocr.exports.words import FULL, SPACE, advance, frame

_PAGE_BREAK = "\n---\n\n"
# What means something wherever it stands, and what does at the start of a line alone.
_ANYWHERE = re.compile(r"[\\`*\[<~|]|(?<!\w)_|_(?!\w)|&(?=#?\w+;)")
_AT_START = re.compile(r"^(?:>|#{1,6}(?=\s|$)|[+\-](?=[\s\-]|$)|=+$)")
_NUMBERED = re.compile(r"^(\d{1,9})([.)])(?=\s|$)")
_BULLET = re.compile(r"^\s*[•·▪■●◦‣∙]\s*(?=\S)")
# A line that reaches this share of its block's width was broken by the margin.
_REACHES = 0.8
# With this share of such lines, the longest of so many em, a block is running text: an address or
# a receipt keeps its lines.
_RUNNING = 0.4
_COLUMN = 12
# Lines whose sizes of type differ by more are not one sentence.
_SAME_SIZE = 1.35
_HYPHENS = "-\u00ad‐"  # noqa: RUF001  (the hyphen proper)


def write(pages: JobPages, target: BinaryIO) -> None:
    """CommonMark with GitHub's tables."""
    between = ""
    for page in pages:
        target.write((between + page_markdown(page)).encode())
        between = _PAGE_BREAK


def page_markdown(page: PageText) -> str:
    """One page's; empty for a page without text."""
    body = "\n\n".join(filter(None, (_block(page, block) for block in page.blocks)))
    return body + "\n" if body else ""


def _block(page: PageText, block: PageBlock) -> str:
    if block.kind == "table" and block.rows:
        return _table(page, block)
    lines = page.lines[block.first : block.end]
    if block.kind == "heading":
        return "#" * max(block.level, 1) + " " + _escaped(_flowing([_text(one) for one in lines]))
    rows = _rows(lines)
    if _is_running(rows, block):
        return "\n\n".join(_escaped(_flowing(part)) for part in _paragraphs(rows, block))
    return _kept([" ".join(map(_text, row)) for row in rows])


def _table(page: PageText, block: PageBlock) -> str:
    """Its first row is the head: GitHub's tables have no other kind."""
    columns = max(map(len, block.rows))
    rows = [
        [" ".join(_text(page.lines[number]) for number in cell) for cell in row]
        + [""] * (columns - len(row))
        for row in block.rows
    ]
    written = ["| " + " | ".join(map(_escaped_cell, row)) + " |" for row in rows]
    table = "\n".join([written[0], "|" + " --- |" * columns, *written[1:]])
    held = {number for row in block.rows for cell in row for number in cell}
    loose = [page.lines[n] for n in range(block.first, block.end) if n not in held]
    return "\n\n".join([table, *([_kept([_text(line) for line in loose])] if loose else [])])


def _kept(lines: list[str]) -> str:
    """Lines that stay lines; those with bullets become a list."""
    out = []
    for line, after in pairwise([*lines, ""]):
        listed = bool(_BULLET.match(line))
        text = "- " + _escaped(_BULLET.sub("", line)) if listed else _escaped(line)
        out.append(text + ("\\" if after and not listed and not _BULLET.match(after) else ""))
    return "\n".join(out)


def _rows(lines: Sequence[PageLine]) -> list[list[PageLine]]:
    """Lines side by side are one row, as they are in the page's text."""
    rows: list[list[PageLine]] = []
    for line in lines:
        if rows and _beside(rows[-1][-1], line):
            rows[-1].append(line)
        else:
            rows.append([line])
    return rows


def _beside(one: PageLine, other: PageLine) -> bool:
    left, top, right, bottom = one.box
    middle = (other.box[1] + other.box[3]) / 2
    return top < middle < bottom and other.box[0] >= (left + right) / 2


def _is_running(rows: list[list[PageLine]], block: PageBlock) -> bool:
    """Whether lines end where the margin is, and not where their text does."""
    if any(len(row) > 1 for row in rows) or len(rows) < 2:
        return False
    if max(_ems(row[0]) for row in rows) < _COLUMN:
        return False
    reaching = sum(_reaches(row[0], block) for row in rows[:-1])
    return reaching >= _RUNNING * (len(rows) - 1)


def _reaches(line: PageLine, block: PageBlock) -> bool:
    left, _top, right, _bottom = block.box
    return line.box[2] - left >= _REACHES * (right - left)


def _paragraphs(rows: list[list[PageLine]], block: PageBlock) -> list[list[str]]:
    """One begins after a line that ends early, with one set in, and with another size of type."""
    parts = [[_text(rows[0][0])]]
    for (before,), (line,) in pairwise(rows):
        low, high = sorted((_size(before), _size(line)))
        set_in = line.box[0] - block.box[0] > _size(line)
        if not _reaches(before, block) or set_in or high > _SAME_SIZE * low:
            parts.append([])
        parts[-1].append(_text(line))
    return parts


def _size(line: PageLine) -> float:
    """Of the type, in pixels: told by the width of the line, which varies less than its height."""
    return math.hypot(*frame(line).across) / max(_ems(line), SPACE)


def _ems(line: PageLine) -> float:
    return sum(map(advance, line.text))


def _flowing(lines: Sequence[str]) -> str:
    """The lines as one, words that were divided at the end of a line made whole."""
    text = ""
    for line in filter(None, lines):
        if not text:
            text = line
        elif text[-1] in _HYPHENS and text[-2:-1].isalpha() and line[0].islower():
            text = text[:-1] + line
        else:
            text += _joint(text[-1], line[0]) + line
    return text


def _joint(before: str, after: str) -> str:
    """Chinese and Japanese have no spaces; Korean has them."""
    wide = all(advance(one) == FULL and not "가" <= one <= "힣" for one in (before, after))
    return "" if wide else " "


def _text(line: PageLine) -> str:
    return " ".join(line.text.split())


def _escaped(text: str) -> str:
    """One line of text of which Markdown makes nothing else."""
    text = _escaped_cell(text.strip())
    # Of "1." the point is what counts, and a digit can't be escaped.
    return _NUMBERED.sub(r"\1\\\2", _AT_START.sub(_behind_slash, text))


def _escaped_cell(text: str) -> str:
    return _ANYWHERE.sub(_behind_slash, text)


def _behind_slash(found: re.Match[str]) -> str:
    return "\\" + found[0]
