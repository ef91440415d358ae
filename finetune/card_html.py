"""A model card's Markdown as HTML: headings, tables and paragraphs, which is all that it holds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

HEADING = re.compile(r"(#{1,3}) (.+)")
RULE = re.compile(r"\|(?: *:?-+:? *\|)+")
CELL = re.compile(r"(?<!\\)\|")


def card_html(card: str) -> SafeString:
    """Everything in it is escaped: names and messages come from people."""
    return format_html_join("\n", "{}", ((part,) for part in _parts(card.splitlines())))


def _parts(lines: list[str]) -> Iterator[SafeString]:
    def kind(line: str) -> str:
        if HEADING.fullmatch(line):
            return "heading"
        return "table" if line.startswith("|") else "text"

    for name, group in groupby((line.strip() for line in lines), kind):
        if name == "heading":
            for line in group:
                found = HEADING.fullmatch(line)
                assert found is not None
                level = SafeString(f"h{len(found[1]) + 1}")
                yield format_html("<{0}>{1}</{0}>", level, found[2])
        elif name == "table":
            yield _table(list(group))
        else:
            text = " ".join(line for line in group if line)
            if text:
                yield format_html("<p>{}</p>", text)


def _table(lines: list[str]) -> SafeString:
    rows = [_cells(line) for line in lines if not RULE.fullmatch(line)]
    head: SafeString | str = ""
    if len(lines) > 1 and RULE.fullmatch(lines[1]):
        first = rows.pop(0)
        if any(first):
            cells = format_html_join("", "<th>{}</th>", ((cell,) for cell in first))
            head = format_html("<thead><tr>{}</tr></thead>", cells)
    body = format_html_join(
        "",
        "<tr>{}</tr>",
        ((format_html_join("", "<td>{}</td>", ((cell,) for cell in row)),) for row in rows),
    )
    return format_html('<table class="console-table">{}<tbody>{}</tbody></table>', head, body)


def _cells(line: str) -> list[str]:
    parts = CELL.split(line)[1:]
    if parts and not parts[-1].strip():
        parts.pop()
    return [part.strip().replace("\\|", "|") for part in parts]
