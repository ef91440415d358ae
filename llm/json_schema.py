"""JSON Schemas that an answer is to follow: what is broken, and what could not be kept.

A schema is refused rather than kept in part. Most of what the grammar can't express is found by
the grammar's own compiler; here stands what it would take and not keep, and what no schema is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Any

from mlops.exceptions import ApplicationError

_DEEPEST, _LARGEST = 48, 200_000
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_MAPS = ("properties", "patternProperties", "$defs", "definitions")
_SINGLE = ("items", "additionalProperties", "additionalItems", "not")
# The longest of the formats, a URI or a date with its time, stays below this.
_FORMAT = 40
_INFINITE = 1 << 30


class InvalidSchema(ApplicationError):
    """A schema that is broken, or that can't be kept."""

    code = "invalid_json_schema"


def check_schema(schema: Any, *, param: str | None = None, kept: bool = True) -> None:
    """Raises InvalidSchema, saying where and why.

    `kept`: whether answers are to follow it; what only describes something to a model, as a
    tool's parameters do, may say more than a grammar can.
    """
    if schema is not True and not isinstance(schema, dict):
        raise InvalidSchema("A JSON Schema must be an object.", param=param)
    if _depth(schema) > _DEEPEST:
        raise InvalidSchema(f"The schema is nested more than {_DEEPEST} levels deep.", param=param)
    if len(json.dumps(schema)) > _LARGEST:
        raise InvalidSchema(f"The schema is longer than {_LARGEST} characters.", param=param)
    # Imported here, as the web process starts without it.
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import Draft202012Validator, validator_for

    try:
        validator_for(schema, default=Draft202012Validator).check_schema(schema)
    except SchemaError as error:
        raise InvalidSchema(
            f"The JSON Schema is broken at {error.json_path}: {error.message}", param=param
        ) from error
    for where, found in subschemas(schema) if kept else ():
        reason = _unkept(found, schema)
        if reason:
            raise InvalidSchema(f"The JSON Schema can't be kept at {where}: {reason}", param=param)


def subschemas(schema: Any, where: str = "$") -> Iterator[tuple[str, dict[str, Any]]]:
    """The schema and all that it holds, each with its JSON path."""
    if not isinstance(schema, dict):
        return
    yield where, schema
    for key in _LISTS:
        for place, inner in enumerate(_list(schema.get(key))):
            yield from subschemas(inner, f"{where}.{key}[{place}]")
    for key in _MAPS:
        for name, inner in _map(schema.get(key)).items():
            yield from subschemas(inner, f"{where}.{key}.{name}")
    for key in _SINGLE:
        for place, inner in enumerate(_list(schema.get(key))):
            yield from subschemas(inner, f"{where}.{key}[{place}]")
        yield from subschemas(schema.get(key), f"{where}.{key}")


def largest_value(schema: Any) -> int:
    """About how many bytes the shortest value takes, of that part of the schema that needs most.

    So much may have to follow where one is begun. Errs upwards; patterns are guessed at.
    """
    sizes = _Sizes(schema)
    found = [sizes.smallest(inner) for _, inner in subschemas(schema)]
    return max((size for size in found if size < _INFINITE), default=4)


def patterns(schema: Any) -> str:
    """All regular expressions for strings, one behind the other."""
    found = (inner.get("pattern") for _, inner in subschemas(schema))
    return "".join(pattern for pattern in found if isinstance(pattern, str))


def _unkept(schema: Mapping[str, Any], root: Any) -> str:
    """What the grammar would not keep of this schema's own keywords; "" if nothing."""
    free = schema.get("additionalProperties", True) is not False or schema.get("patternProperties")
    if free and schema.get("minProperties", 0) > len(set(schema.get("required", ()))):
        # An object may name the same key twice.
        return (
            "minProperties can't count keys that the schema does not name. "
            'Name them in "properties" and set "additionalProperties": false.'
        )
    parts = [schema, *_list(schema.get("allOf"))]
    parts += [
        resolve(part["$ref"], root) for part in parts if isinstance(part, dict) and "$ref" in part
    ]
    for low, high in product(_bounds(parts, "inimum"), _bounds(parts, "aximum")):
        # llguidance 1.9 takes such a bound in where the integer parts of both are the same.
        edges = (float(value).is_integer() for open_, value in (low, high) if open_)
        if any(edges) and high[1] - low[1] < 1 and schema.get("type") != "integer":
            return (
                "a whole number as an exclusive bound, less than 1 away from the other bound. "
                "Use minimum and maximum."
            )
    return ""


def _bounds(parts: Iterable[Any], name: str) -> list[tuple[bool, float]]:
    """The bounds on one side, each with whether it is left out itself."""
    return [
        (key.startswith("exclusive"), part[key])
        for part in parts
        if isinstance(part, dict)
        for key in ("m" + name, "exclusiveM" + name)
        if isinstance(part.get(key), int | float) and not isinstance(part[key], bool)
    ]


class _Sizes:
    """Bytes of the shortest values of one document's schemas.

    _INFINITE where a value would hold itself, or there is none.
    """

    def __init__(self, root: Any) -> None:
        self._root = root
        self._referred: dict[str, int] = {}

    def smallest(self, schema: Any) -> int:
        if not isinstance(schema, dict):
            return 1 if schema is True else _INFINITE
        if "const" in schema:
            return _written(schema["const"])
        if "enum" in schema:
            return min(map(_written, schema["enum"]), default=_INFINITE)
        sizes = [self.smallest(inner) for inner in _list(schema.get("allOf"))]
        if isinstance(schema.get("$ref"), str):
            sizes.append(self._target(schema["$ref"]))
        for key in ("anyOf", "oneOf"):
            if _list(schema.get(key)):
                sizes.append(min(map(self.smallest, schema[key])))
        kinds = schema.get("type")
        kinds = kinds if isinstance(kinds, list) else [kinds] if kinds else []
        if not kinds and not sizes:
            # All are allowed, and one has to be made.
            return 1
        if kinds:
            sizes.append(min(self._smallest_of(kind, schema) for kind in kinds))
        return min(sum(sizes), _INFINITE)

    def _target(self, reference: str) -> int:
        if reference not in self._referred:
            # What is met again before it is known holds itself.
            self._referred[reference] = _INFINITE
            self._referred[reference] = self.smallest(resolve(reference, self._root))
        return self._referred[reference]

    def _smallest_of(self, kind: str, schema: Mapping[str, Any]) -> int:
        match kind:
            case "object":
                named, size = _map(schema.get("properties")), 2
                some = list(named)[: schema.get("minProperties", 0)]
                for key in {*schema.get("required", ()), *some}:
                    size += _written(key) + 2 + self.smallest(named.get(key, True))
            case "array":
                first, least = _list(schema.get("prefixItems")), schema.get("minItems", 0)
                size = 2 + sum(self.smallest(inner) + 2 for inner in first[:least])
                if least > len(first):
                    rest = self.smallest(schema.get("items", True))
                    size += (least - len(first)) * (rest + 2)
            case "string":
                size = 2 + 4 * schema.get("minLength", 0) + len(schema.get("pattern", ""))
                size += _FORMAT * ("format" in schema)
            case "integer" | "number":
                bounds = [len(str(schema[key])) + 2 for key in _BOUNDS if key in schema]
                size = max(bounds, default=1)
            case _:
                size = 5
        return min(size, _INFINITE)


_BOUNDS = frozenset(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"))


def resolve(reference: str, root: Any) -> Any:
    """What a reference within the document points at; True where it points elsewhere."""
    found = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        if part:
            key = part.replace("~1", "/").replace("~0", "~")
            found = found.get(key, True) if isinstance(found, dict) else True
    return found


def _written(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode())


def _depth(schema: Any) -> int:
    """Levels of nesting, counted without recursion; stops where it is too deep."""
    level, deep = [[schema]], 0
    while level and deep <= _DEEPEST + 1:
        deep += 1
        level = [
            inner
            for value in level
            for inner in (value.values() if isinstance(value, dict) else value)
            if isinstance(inner, dict | list)
        ]
    return deep


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _map(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
