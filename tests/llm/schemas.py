"""Random JSON Schemas, and what is said of an answer that should follow one."""

from __future__ import annotations

import json
import re
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation, localcontext
from ipaddress import ip_address
from random import Random
from typing import Any
from uuid import UUID

from jsonschema import Draft202012Validator, FormatChecker

KEYS = ("name", "id", "total", "날짜", "상호", "a b", "x-1", "items", 'quo"te', "back\\slash", "é")
TEXTS = ("", "a", "yes", "한국어", 'say "hi"', "line\nbreak", "日本", "🙂", "\\")
PATTERNS = (
    r"^[A-Z]{2}\d{4}$",
    r"^\d{3}-\d{4}$",
    r"^(foo|bar)+baz$",
    r"^a+b$",
    r"^[가-힣]{2,4}$",
    r"ab",
    r"^x",
    r"^\w+@\w+\.(com|kr)$",
    r"^[^0-9]*$",
    r"^.{3,6}$",
    r"^\s?[\d,]+원$",
    r"^(a|ab)(c|bcd)(d*)$",
)
FORMATS = ("date", "time", "date-time", "email", "uuid", "ipv4", "ipv6", "hostname", "uri")
# What no grammar of ours can keep, each in a schema of its own.
UNKEPT: tuple[dict[str, Any], ...] = (
    {"not": {"type": "string"}},
    {"type": "array", "items": {"type": "integer"}, "uniqueItems": True},
    {"type": "array", "contains": {"type": "integer"}},
    {"type": "object", "propertyNames": {"pattern": "^a"}},
    {"type": "object", "minProperties": 2},
    {"type": "object", "dependentRequired": {"a": ["b"]}},
    {"if": {"type": "string"}, "then": {"minLength": 2}},
    {"type": "string", "format": "no-such-format"},
    {"type": "string", "pattern": "(?=a)b"},
    {"type": "object", "unevaluatedProperties": False},
    {"oneOf": [{"type": "number"}, {"type": "integer"}]},
    {"$ref": "https://example.com/elsewhere.json"},
)


class Schemas:
    """Schemas of one seed; each is nested to `depth` at most, but for its references."""

    def __init__(self, seed: int, *, depth: int = 3) -> None:
        self._random, self._depth = Random(seed), depth
        self._defined: list[str] = []

    def next(self) -> dict[str, Any]:
        random = self._random
        self._defined = ["node", "kind"][: random.choice((0, 0, 0, 1, 2))]
        schema = self._any(self._depth)
        if random.random() < 0.05:
            schema = {"type": "array", "items": random.choice(UNKEPT)}
        if self._defined:
            schema = dict(schema)
            schema["$defs"] = {name: self._definition(name) for name in self._defined}
        return schema

    def _definition(self, name: str) -> dict[str, Any]:
        """`node` holds itself, on a way that ends; `kind` is anything."""
        if name == "kind":
            defined, self._defined = self._defined, []
            made = self._any(1)
            self._defined = defined
            return made
        return {
            "type": "object",
            "properties": {
                "value": self._scalar(),
                "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                "all": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
            "required": ["value", "next"],
            "additionalProperties": False,
        }

    def _any(self, depth: int) -> dict[str, Any]:
        makers = [self._scalar, self._scalar]
        if self._defined:
            makers.append(lambda: {"$ref": f"#/$defs/{self._random.choice(self._defined)}"})
        if depth > 0:
            makers += [lambda: self._object(depth), lambda: self._object(depth)]
            makers += [lambda: self._array(depth), lambda: self._union(depth)]
        return self._random.choice(makers)()

    # -- values that hold others --------------------------------------------------------------

    def _object(self, depth: int) -> dict[str, Any]:
        random = self._random
        names = random.sample(KEYS, random.randint(0, 5))
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {name: self._any(depth - 1) for name in names},
        }
        if random.random() < 0.8:
            schema["required"] = random.sample(names, random.randint(0, len(names)))
        extra = random.choice((False, False, None, True, "schema"))
        if extra == "schema":
            schema["additionalProperties"] = self._scalar()
        elif extra is not None:
            schema["additionalProperties"] = extra
        if random.random() < 0.1:
            schema["maxProperties"] = len(schema.get("required", ())) + random.randint(0, 2)
        if random.random() < 0.1 and extra is False and names:
            schema["minProperties"] = random.randint(0, len(names))
        if random.random() < 0.1:
            schema["patternProperties"] = {"^n_": self._scalar()}
        if random.random() < 0.2:
            schema |= {"title": "T", "description": "설명", "default": {}}
        return schema

    def _array(self, depth: int) -> dict[str, Any]:
        random = self._random
        schema: dict[str, Any] = {"type": "array"}
        least = random.choice((0, 0, 1, 2, 4))
        if random.random() < 0.8:
            schema["items"] = self._any(depth - 1)
        if random.random() < 0.2:
            schema["prefixItems"] = [self._scalar() for _ in range(random.randint(1, 3))]
        if random.random() < 0.6:
            schema["minItems"] = least
        if random.random() < 0.6:
            schema["maxItems"] = least + random.randint(0, 4)
        return schema

    def _union(self, depth: int) -> dict[str, Any]:
        random = self._random
        match random.choice(("anyOf", "types", "tagged", "allOf")):
            case "anyOf":
                return {"anyOf": [self._any(depth - 1) for _ in range(random.randint(1, 3))]}
            case "types":
                kinds = ("string", "integer", "number", "boolean", "null", "array", "object")
                return {"type": random.sample(kinds, random.randint(1, 3))}
            case "tagged":
                return {
                    "oneOf": [
                        {
                            "type": "object",
                            "properties": {"kind": {"const": name}, "v": self._any(depth - 1)},
                            "required": ["kind", "v"],
                            "additionalProperties": False,
                        }
                        for name in ("a", "b", "c")[: random.randint(1, 3)]
                    ]
                }
            case _:
                text = {"type": "string", "minLength": random.randint(0, 3)}
                return {"allOf": [text, {"maxLength": random.randint(3, 9)}]}

    # -- plain values -------------------------------------------------------------------------

    def _scalar(self) -> dict[str, Any]:
        random = self._random
        match random.choice(("string", "string", "integer", "number", "enum", "const", "simple")):
            case "string":
                return self._string()
            case "integer":
                return self._bounded("integer", random.randint(-1000, 1000), random.randint(0, 999))
            case "number":
                low = random.choice((random.randint(-50, 50), round(random.uniform(-5, 5), 2)))
                return self._bounded("number", low, random.choice((0.5, 3, 1000)))
            case "enum":
                values = [*TEXTS, 1, -2.5, None, True, ["a", 1], {"k": "v"}]
                return {"enum": random.sample(values, random.randint(1, 5))}
            case "const":
                return {"const": random.choice((*TEXTS, 0, 1.5, None, {"a": [1, {"b": None}]}))}
        return {"type": random.choice(("boolean", "null", "string", "integer", "number"))}

    def _string(self) -> dict[str, Any]:
        random = self._random
        schema: dict[str, Any] = {"type": "string"}
        match random.choice(("free", "length", "pattern", "format")):
            case "length":
                least = random.choice((0, 1, 5, 20))
                schema["minLength"] = least
                if random.random() < 0.7:
                    schema["maxLength"] = least + random.randint(0, 10)
            case "pattern":
                schema["pattern"] = random.choice(PATTERNS)
            case "format":
                schema["format"] = random.choice(FORMATS)
        return schema

    def _bounded(self, kind: str, low: float, width: float) -> dict[str, Any]:
        random = self._random
        schema: dict[str, Any] = {"type": kind}
        if random.random() < 0.6:
            schema[random.choice(("minimum", "exclusiveMinimum"))] = low
        if random.random() < 0.6:
            high = random.choice(("maximum", "exclusiveMaximum"))
            schema[high] = low + (int(width) + 2 if kind == "integer" else width)
        if len(schema) == 1 and random.random() < 0.3:
            schema["multipleOf"] = random.choice((2, 7, 10) if kind == "integer" else (0.5, 0.25))
        return schema


def complaint(answer: str, schema: Any) -> str:
    """Why `answer` is no JSON or does not follow the schema; "" where it does.

    Numbers are compared as decimals: in binary 0.3 is no multiple of 0.1.
    """
    try:
        json.loads(answer)
        value = json.loads(answer, parse_float=_decimal, parse_constant=_no_constant)
    except ValueError as error:
        return f"no JSON: {error}"
    exact = json.loads(json.dumps(schema), parse_float=Decimal)
    with localcontext(prec=2000):
        for error in Draft202012Validator(exact, format_checker=FORMAT_CHECKER).iter_errors(value):
            return f"{error.json_path}: {error.message}"
    return ""


def _decimal(text: str) -> Decimal:
    """1e999999999999999999 is valid JSON, but no decimal of Python's."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal("Infinity")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


FORMAT_CHECKER = FormatChecker(())
_HOST = re.compile(
    r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", re.I
)


@FORMAT_CHECKER.checks("date", raises=ValueError)
def _date(text: object) -> bool:
    return not isinstance(text, str) or bool(date.fromisoformat(text))


@FORMAT_CHECKER.checks("time", raises=ValueError)
def _time(text: object) -> bool:
    return not isinstance(text, str) or time.fromisoformat(_parsable(text)) is not None


@FORMAT_CHECKER.checks("date-time", raises=ValueError)
def _date_time(text: object) -> bool:
    return not isinstance(text, str) or bool(datetime.fromisoformat(_parsable(text)))


def _parsable(text: str) -> str:
    """Python knows neither leap seconds nor more than six digits behind the second."""
    text = re.sub(r":60(?=[.Zz+-]|$)", ":59", text.upper())
    return re.sub(r"(\.\d{1,6})\d*", r"\1", text)


@FORMAT_CHECKER.checks("uuid", raises=ValueError)
def _uuid(text: object) -> bool:
    return not isinstance(text, str) or len(str(UUID(text))) == len(text)


@FORMAT_CHECKER.checks("ipv4", raises=ValueError)
@FORMAT_CHECKER.checks("ipv6", raises=ValueError)
def _address(text: object) -> bool:
    return not isinstance(text, str) or bool(ip_address(text).packed)


@FORMAT_CHECKER.checks("hostname")
def _hostname(text: object) -> bool:
    return not isinstance(text, str) or bool(_HOST.fullmatch(text))


@FORMAT_CHECKER.checks("email")
def _email(text: object) -> bool:
    return not isinstance(text, str) or bool(re.fullmatch(r"\S+@\S+", text))


@FORMAT_CHECKER.checks("uri")
def _uri(text: object) -> bool:
    return not isinstance(text, str) or bool(re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*:\S*", text))
