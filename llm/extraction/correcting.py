"""A person's change of one value: its place, its type, and the values with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm.extraction.fields import coerced, nullable, problems_of, resolved, types_of, unescaped
from mlops.exceptions import ApplicationError


def typed_value(value: Any, *, path: str, schema: Mapping[str, Any]) -> Any:
    """The value as the schema's type at a JSON pointer; a text may be one as it is printed.

    An empty text is null where that is allowed. Raises ApplicationError.
    """
    own = schema_at(path, schema)
    types = types_of(own)
    if isinstance(value, str):
        text = value.strip()
        if not text and nullable(own):
            return None
        if types & {"number", "integer", "boolean"} or own.get("format") == "date":
            found = coerced(text, own)
            value = value if found is None else found
        else:
            value = text
    rules = {**own, **({"type": [*sorted(types), "null"]} if nullable(own) else {})}
    problems = problems_of(value, {"$defs": schema.get("$defs", {}), **rules})
    if problems:
        raise ApplicationError(
            f"{problems[0]['message']}. The schema asks for {' or '.join(sorted(types))}"
            f"{' as YYYY-MM-DD' if own.get('format') == 'date' else ''}.",
            code="invalid_value",
            param=path,
        )
    return value


def schema_at(path: str, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the schema says of a JSON pointer. Raises ApplicationError for one it doesn't know."""
    found = resolved(schema, schema)
    for part in _parts(path):
        inside = found.get("properties", {})
        if part in inside:
            found = resolved(inside[part], schema)
        elif "array" in types_of(found) and part.isdecimal():
            found = resolved(found.get("items", {}), schema)
        else:
            raise _unknown(path)
    return found


def with_value(values: Any, path: str, value: Any) -> Any:
    """The same values with another one at a JSON pointer. Raises ApplicationError."""
    parts = _parts(path)
    inside = values
    for part in parts[:-1]:
        if isinstance(inside, dict):
            inside = inside.setdefault(part, {})
        elif isinstance(inside, list) and part.isdecimal() and int(part) < len(inside):
            inside = inside[int(part)]
        else:
            raise _unknown(path)
    last = parts[-1]
    if isinstance(inside, dict):
        inside[last] = value
    elif isinstance(inside, list) and last.isdecimal() and int(last) < len(inside):
        inside[int(last)] = value
    else:
        raise _unknown(path)
    return values


def _parts(path: str) -> list[str]:
    parts = [unescaped(part) for part in path.split("/")[1:]]
    if not path.startswith("/") or not parts:
        raise _unknown(path)
    return parts


def _unknown(path: str) -> ApplicationError:
    return ApplicationError(
        f"The schema has no '{path}'. Name a value by its JSON pointer, such as /total.",
        code="unknown_field",
        param="path",
    )
