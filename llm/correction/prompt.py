"""What a model is asked when it corrects lines, and what its answer must look like."""

from __future__ import annotations

import json
from collections.abc import Sequence

# The answer repeats the lines that are given, in the same form: what is copied needs no thought.
_TASK = """\
These lines were read from a page by text recognition. Correct characters that it misread, and \
nothing else: keep wording, spelling, punctuation, numbers and order as they stand on the page. A \
line without an error stays as it is. Answer with a JSON array of {count} strings, one for each \
line."""


def fix_messages(lines: Sequence[str]) -> list[dict[str, str]]:
    """The conversation to send for these lines."""
    task = _TASK.format(count=len(lines))
    return [{"role": "user", "content": f"{task}\n\n{lines_json(lines)}"}]


def lines_json(lines: Sequence[str]) -> str:
    return json.dumps(list(lines), ensure_ascii=False)


def fix_schema(count: int) -> str:
    """The JSON Schema of an answer of `count` lines."""
    schema = {
        "type": "array",
        "items": {"type": "string"},
        "minItems": count,
        "maxItems": count,
    }
    return json.dumps(schema)


def fixed_lines(answer: str, count: int) -> list[str] | None:
    """The answer's lines; None where it isn't what was asked for."""
    try:
        found = json.loads(answer)
    except ValueError:
        return None
    if not isinstance(found, list) or len(found) != count:
        return None
    return found if all(isinstance(one, str) for one in found) else None
