"""Plain text, to go on training a model on."""

from __future__ import annotations

from finetune.formats.base import Format, Given, Row, Trouble, Troubles, text_of

COLUMNS = ("text", "content", "document", "body")


def text_match(given: Given) -> bool:
    return any(name in given for name in COLUMNS) and "image" not in given


def text_convert(given: Given, troubles: Troubles) -> Row | None:
    column = next((name for name in COLUMNS if name in given), COLUMNS[0])
    text = text_of(given, column, troubles)
    if text is None:
        return None
    if not text.strip():
        troubles.append(Trouble("empty_target", column, f"'{column}' is empty."))
        return None
    return {"text": text}


TEXT = Format("text", "text", "plain text", '{"text": "…"}', text_match, text_convert)
