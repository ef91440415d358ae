"""The fields that a JSON Schema asks for, and values brought to the types that it names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from jsonschema import Draft202012Validator, SchemaError

from llm.extraction.amounts import parse_amount
from llm.extraction.dates import parse_date
from mlops.exceptions import ApplicationError

Path = tuple[str | int, ...]
# Deeper than this nobody reads a page; a schema that refers to itself ends here.
DEEPEST = 6


@dataclass(frozen=True, slots=True)
class Field:
    """A property of the schema; `schema` is its own, with references followed."""

    path: Path
    schema: Mapping[str, Any]
    required: bool

    @property
    def name(self) -> str:
        return str(self.path[-1])

    @property
    def words(self) -> str:
        """The name as words: invoiceNumber and invoice_number are "invoice number"."""
        return words_of(self.name)

    @property
    def description(self) -> str:
        return f"{self.schema.get('title', '')} {self.schema.get('description', '')}".strip()

    @property
    def types(self) -> frozenset[str]:
        return types_of(self.schema)


def words_of(name: str) -> str:
    """camelCase, snake_case and kebab-case as lower-case words."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return " ".join(re.sub(r"[_\-.]+", " ", parted).casefold().split())


def schema_check(schema: Any) -> None:
    """Raises ApplicationError unless this is a JSON Schema of an object with properties."""
    if not isinstance(schema, Mapping):
        raise _refused("The schema must be a JSON object.")
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        place = "/".join(map(str, error.absolute_path))
        raise _refused(
            f"This is no JSON Schema: {error.message}{f' (at {place})' if place else ''}"
        ) from error
    top = resolved(schema, schema)
    if not top.get("properties"):
        raise _refused("The schema must describe an object with at least one property.")
    if outside := next((ref for ref in _references(schema) if not ref.startswith("#")), None):
        raise _refused(f"$ref {outside} points out of the schema; put its parts under $defs.")
    for ref in _references(schema):
        resolved({"$ref": ref}, schema)


def problems_of(values: Any, schema: Mapping[str, Any]) -> tuple[dict[str, str], ...]:
    """What is wrong with values under the schema: [{"path" (a JSON pointer), "message"}, …]."""
    errors = Draft202012Validator(
        schema, format_checker=Draft202012Validator.FORMAT_CHECKER
    ).iter_errors(values)
    return tuple(
        {"path": pointer(tuple(error.absolute_path)), "message": error.message[:500]}
        for error in sorted(errors, key=lambda error: list(map(str, error.absolute_path)))
    )


def resolved(schema: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema with its $ref followed, and of a choice with null the other part."""
    for _ in range(DEEPEST):
        if not isinstance(schema, Mapping):
            return {}
        if "$ref" in schema:
            found: Any = root
            for part in str(schema["$ref"]).removeprefix("#").strip("/").split("/"):
                if part:
                    found = found.get(unescaped(part)) if isinstance(found, Mapping) else None
            if found is None:
                raise _refused(f"$ref {schema['$ref']} points to nothing in the schema.")
            schema = {**found, **{key: value for key, value in schema.items() if key != "$ref"}}
            continue
        choices = schema.get("anyOf") or schema.get("oneOf") or ()
        others = [one for one in choices if isinstance(one, Mapping) and one.get("type") != "null"]
        if len(others) != 1:
            break
        rest = {key: value for key, value in schema.items() if key not in ("anyOf", "oneOf")}
        nullable = len(others) < len(choices)
        schema = {**others[0], **rest} | ({"x-nullable": True} if nullable else {})
    return schema


def properties_of(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Iterator[Field]:
    """The direct properties of an object's schema."""
    top = resolved(schema, root)
    for name, own in top.get("properties", {}).items():
        yield Field((name,), resolved(own, root), name in top.get("required", ()))


def types_of(schema: Mapping[str, Any]) -> frozenset[str]:
    """The types that a value may have, but for null; a schema that names none is of strings."""
    given = schema.get("type", ())
    types = {given} if isinstance(given, str) else set(given)
    if not types and "properties" in schema:
        types = {"object"}
    if not types:
        values = [*schema.get("enum", ()), *([schema["const"]] if "const" in schema else ())]
        types = {"number" if isinstance(one, int | float) else "string" for one in values}
    return frozenset(types - {"null"} or {"string"})


def nullable(schema: Mapping[str, Any]) -> bool:
    given = schema.get("type", ())
    types = {given} if isinstance(given, str) else set(given)
    return "null" in types or bool(schema.get("x-nullable")) or None in schema.get("enum", ())


def coerced(text: str, schema: Mapping[str, Any]) -> Any:
    """A text of a page as the schema's type; None where it is none."""
    types = types_of(schema)
    text = " ".join(text.split())
    if "enum" in schema:
        folded = text.casefold()
        options = [one for one in schema["enum"] if isinstance(one, str)]
        return next((one for one in options if one.casefold() == folded), None)
    if "string" in types:
        if schema.get("format") == "date":
            found = parse_date(text)
            return found.isoformat() if found else None
        return text or None
    if types & {"number", "integer"}:
        return number(parse_amount(text), types)
    if "boolean" in types:
        return {"yes": True, "no": False, "예": True, "아니오": False}.get(text.casefold())
    return None


def number(value: Decimal | None, types: frozenset[str]) -> int | float | None:
    """A decimal as JSON has it; None where an integer is asked for and this is none."""
    if value is None:
        return None
    if value == value.to_integral_value():
        whole = int(value)
        return whole if "integer" in types or value.as_tuple().exponent == 0 else float(value)
    return float(value) if "number" in types else None


def pointer(path: Path) -> str:
    """RFC 6901: /items/0/price."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path)


def unescaped(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~")


def leaves(values: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value that is neither an object nor an array, with where it stands."""
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield from leaves(value, (*path, name))
    elif isinstance(values, list | tuple):
        for index, value in enumerate(values):
            yield from leaves(value, (*path, index))
    else:
        yield path, values


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"]
        for value in schema.values():
            yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)


def _refused(message: str) -> ApplicationError:
    return ApplicationError(message, code="invalid_schema", param="schema")
