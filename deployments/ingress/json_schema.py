"""Whether what a client calls a JSON schema is one, told in a time that grows with its size and no faster.

``jsonschema`` is not used: held against its metaschema, a schema of 32 KiB took seconds of the event loop (0.2 ms for each
schema inside, the square of their number for what is to be unique, 10 ms for each range of characters in a pattern).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping

# What ``re.compile`` parses with. Only that reads a pattern without writing out its ranges of characters one by one.
from re import _parser  # type: ignore[attr-defined]
from typing import Any, TypeAlias

import orjson

from deployments.ingress.body import depth_exceeds

#: Bytes and levels of a JSON schema: the engine compiles it to a grammar, which costs far more than its size.
MAX_SCHEMA_BYTES = 32 * 1024
MAX_SCHEMA_DEPTH = 32
SCHEMA_RULE = f"a valid JSON schema: an object of at most {MAX_SCHEMA_BYTES} bytes and {MAX_SCHEMA_DEPTH} levels"

_TYPES = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})
#: Dialects before 2020-12, whose differences that clients make use of are understood. Any other name is taken for 2020-12.
_OLDER = re.compile(r"https?://json-schema\.org/(draft-0[467]/schema#?|draft/2019-09/schema#?)\Z")
_ANCHOR = re.compile(r"[A-Za-z_][-A-Za-z0-9._]*\Z")


class _Wrong(Exception):
    """A keyword has a value that it cannot have."""


def check_schema(value: dict[str, Any]) -> dict[str, Any]:
    """The schema itself. Raises ValueError with what is allowed."""
    try:
        if depth_exceeds(value, MAX_SCHEMA_DEPTH) or len(orjson.dumps(value)) > MAX_SCHEMA_BYTES:
            raise _Wrong
        _check(value)
    # orjson's: an integer beyond 64 bits, which other notations than JSON can hold.
    except (_Wrong, orjson.JSONEncodeError):
        raise ValueError(SCHEMA_RULE) from None
    return value


#: Checks a keyword's value and returns the schemas inside. Raises _Wrong.
_Rule: TypeAlias = Callable[[Any], Iterable[Any]]


def _check(root: dict[str, Any]) -> None:
    """Raises _Wrong. Unknown keywords may have any value."""
    dialect = root.get("$schema")
    rules = _OLDER_RULES if isinstance(dialect, str) and _OLDER.match(dialect) else _RULES
    pending: list[Any] = [root]
    while pending:
        schema = pending.pop()
        if isinstance(schema, bool):
            continue
        for keyword, value in _object(schema).items():
            rule = rules.get(keyword)
            if rule is not None:
                pending.extend(rule(value))


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Wrong
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _Wrong
    return value


def _schema(value: Any) -> Iterable[Any]:
    return (value,)


def _schemas(value: Any) -> Iterable[Any]:
    if not _list(value):
        raise _Wrong
    return _list(value)


def _named_schemas(value: Any) -> Iterable[Any]:
    return _object(value).values()


def _schemas_by_pattern(value: Any) -> Iterable[Any]:
    for pattern in _object(value):
        _pattern(pattern)
    return _object(value).values()


def _dependencies(value: Any) -> Iterable[Any]:
    """Of each name either a schema, or names."""
    found: list[Any] = []
    for dependency in _object(value).values():
        if isinstance(dependency, list):
            _names(dependency)
        else:
            found.append(dependency)
    return found


def _dependent_names(value: Any) -> Iterable[Any]:
    for names in _object(value).values():
        _names(names)
    return ()


def _names(value: Any) -> Iterable[Any]:
    """Strings, each once."""
    names = _list(value)
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise _Wrong
    return ()


def _types(value: Any) -> Iterable[Any]:
    types = value if isinstance(value, list) else [value]
    _names(types)
    if not types or not _TYPES.issuperset(types):
        raise _Wrong
    return ()


def _text(value: Any) -> Iterable[Any]:
    if not isinstance(value, str):
        raise _Wrong
    return ()


def _id(value: Any) -> Iterable[Any]:
    """An address without a fragment."""
    if not isinstance(value, str) or "#" in value[:-1]:
        raise _Wrong
    return ()


def _anchor(value: Any) -> Iterable[Any]:
    if not isinstance(value, str) or not _ANCHOR.match(value):
        raise _Wrong
    return ()


def _pattern(value: Any) -> Iterable[Any]:
    _text(value)
    try:
        # As other groups: those without a name it takes out of each other, in the time of their depth times what is in them.
        _parser.parse(value.replace("(?:", "("))
    # Beside its own error: a repetition beyond 32 bits, one of thousands of digits, thousands of brackets in each other.
    except (re.error, OverflowError, ValueError, RecursionError):
        raise _Wrong from None
    return ()


def _flag(value: Any) -> Iterable[Any]:
    if not isinstance(value, bool):
        raise _Wrong
    return ()


def _flags(value: Any) -> Iterable[Any]:
    for flag in _object(value).values():
        _flag(flag)
    return ()


def _number(value: Any) -> Iterable[Any]:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _Wrong
    return ()


def _number_or_flag(value: Any) -> Iterable[Any]:
    return () if isinstance(value, bool) else _number(value)


def _factor(value: Any) -> Iterable[Any]:
    _number(value)
    if value <= 0:
        raise _Wrong
    return ()


def _count(value: Any) -> Iterable[Any]:
    _number(value)
    if value < 0 or value != int(value):
        raise _Wrong
    return ()


def _anything_in_a_list(value: Any) -> Iterable[Any]:
    _list(value)
    return ()


def _schema_or_schemas(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list) else (value,)


_KEYWORDS: Mapping[_Rule, str] = {
    _schema: "additionalProperties contains contentSchema else if items not propertyNames then unevaluatedItems "
    "unevaluatedProperties",
    _schemas: "allOf anyOf oneOf prefixItems",
    _named_schemas: "$defs definitions dependentSchemas properties",
    _schemas_by_pattern: "patternProperties",
    _dependencies: "dependencies",
    _dependent_names: "dependentRequired",
    _names: "required",
    _types: "type",
    _text: "$comment $dynamicRef $ref $schema contentEncoding contentMediaType description format title",
    _id: "$id",
    _anchor: "$anchor $dynamicAnchor",
    _pattern: "pattern",
    _flag: "deprecated readOnly uniqueItems writeOnly",
    _flags: "$vocabulary",
    _number: "exclusiveMaximum exclusiveMinimum maximum minimum",
    _factor: "multipleOf",
    _count: "maxContains maxItems maxLength maxProperties minContains minItems minLength minProperties",
    _anything_in_a_list: "enum examples",
}
_RULES: Mapping[str, _Rule] = {keyword: rule for rule, keywords in _KEYWORDS.items() for keyword in keywords.split()}
#: Tuples had no keyword of their own, and a bound was exclusive by a flag beside it (draft 4).
_OLDER_RULES: Mapping[str, _Rule] = {
    **_RULES,
    "$id": _text,
    "items": _schema_or_schemas,
    "additionalItems": _schema,
    "exclusiveMaximum": _number_or_flag,
    "exclusiveMinimum": _number_or_flag,
}
