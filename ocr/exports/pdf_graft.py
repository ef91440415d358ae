"""What text a PDF's page holds already: hidden text goes, before another is laid over the page."""

from __future__ import annotations

from collections.abc import Iterator

import pikepdf
from pikepdf import ContentStreamInstruction, Name, Object, Page, Pdf

# The rendering mode of text that is not drawn.
_HIDDEN = 3
_SHOW = frozenset({"Tj", "TJ", "'", '"'})


def drop_hidden_text(page: Page, pdf: Pdf) -> None:
    """Takes out the text that an earlier OCR left; what is seen of the page stays."""
    if not _has_fonts(page.obj):
        return
    kept, dropped = _without_hidden(page.obj)
    if dropped:
        page.obj.Contents = pdf.make_stream(pikepdf.unparse_content_stream(kept))
    for form in _forms(page.obj):
        kept, dropped = _without_hidden(form)
        if dropped:
            form.write(pikepdf.unparse_content_stream(kept))


def visible_text(page: Page) -> int:
    """How many bytes of text the page draws: about its characters, or twice as many."""
    if not _has_fonts(page.obj):
        return 0
    return sum(map(_visible, (page.obj, *_forms(page.obj))))


def _without_hidden(content: Object) -> tuple[list[ContentStreamInstruction], bool]:
    kept, dropped = [], False
    for instruction, mode in _with_mode(content):
        if mode == _HIDDEN and str(instruction.operator) in _SHOW:
            dropped = True
        else:
            kept.append(instruction)
    return kept, dropped


def _visible(content: Object) -> int:
    size = 0
    for instruction, mode in _with_mode(content):
        operator = str(instruction.operator)
        if operator in _SHOW and mode != _HIDDEN:
            shown = instruction.operands[-1]
            parts = shown if operator == "TJ" else [shown]
            size += sum(len(bytes(part)) for part in parts if isinstance(part, pikepdf.String))
    return size


def _with_mode(content: Object) -> Iterator[tuple[ContentStreamInstruction, int]]:
    """Each instruction with the text rendering mode that it meets."""
    mode, saved = 0, []
    for instruction in pikepdf.parse_content_stream(content):
        operator = str(instruction.operator)
        if operator == "q":
            saved.append(mode)
        elif operator == "Q" and saved:
            mode = saved.pop()
        elif operator == "Tr" and instruction.operands:
            mode = int(instruction.operands[0])
        yield instruction, mode


def _has_fonts(page: Object) -> bool:
    """Most scans hold none, and are spared a look at all they draw."""
    return any(
        one.get(Name.Resources, {}).get(Name.Font) is not None for one in (page, *_forms(page))
    )


def _forms(page: Object) -> list[Object]:
    """The form XObjects of a page, and those within them, each once."""
    found: dict[tuple[int, int], Object] = {}
    waiting = [page]
    while waiting:
        resources = waiting.pop().get(Name.Resources, {})
        for item in resources.get(Name.XObject, {}).values():
            if item.get(Name.Subtype) == Name.Form and item.objgen not in found:
                found[item.objgen] = item
                waiting.append(item)
    return list(found.values())
