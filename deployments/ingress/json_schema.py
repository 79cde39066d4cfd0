"""Whether what a client calls a JSON schema is one, told in a time that grows with its size and no faster.

``jsonschema-rs`` holds it against its metaschema: the package in Python took seconds of the event loop for 32 KiB (0.2 ms for
each schema inside, the square of their number for what is to be unique, 10 ms for each range of characters in a pattern).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import orjson

from pipeline.json_text import depth_exceeds

#: Bytes and levels of a JSON schema: the engine compiles it to a grammar, which costs far more than its size.
MAX_SCHEMA_BYTES = 32 * 1024
MAX_SCHEMA_DEPTH = 32
SCHEMA_RULE = f"a valid JSON schema: an object of at most {MAX_SCHEMA_BYTES} bytes and {MAX_SCHEMA_DEPTH} levels"

#: The dialects that are understood; any other name is taken for the newest one, and never fetched.
_DIALECT = re.compile(r"https?://json-schema\.org/(draft-0[467]/schema#?|draft/20(19-09|20-12)/schema#?)\Z")
#: Where schemas are inside of one: as the value, in a list, under names.
_ONE = (
    "additionalItems additionalProperties contains contentSchema else if items not propertyNames then unevaluatedItems"
)
_WITHIN = frozenset(f"{_ONE} unevaluatedProperties allOf anyOf oneOf prefixItems".split())
_NAMED = frozenset(("$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"))
#: How often in a pattern; larger ones are refused, whoever compiles them writes them out.
_REPETITION = re.compile(r"\{(\d+)(?:,(\d*))?\}")
MAX_REPETITIONS = 10_000


def check_schema(value: dict[str, Any]) -> dict[str, Any]:
    """The schema itself. Raises ValueError with what is allowed."""
    try:
        if depth_exceeds(value, MAX_SCHEMA_DEPTH) or len(orjson.dumps(value)) > MAX_SCHEMA_BYTES:
            raise ValueError(SCHEMA_RULE)
        jsonschema_rs.meta.validate(_in_known_dialect(value))
        for pattern in _patterns(value):
            _check_pattern(pattern)
    # orjson's: an integer beyond 64 bits, which other notations than JSON can hold.
    except (jsonschema_rs.ValidationError, orjson.JSONEncodeError):
        raise ValueError(SCHEMA_RULE) from None
    return value


def _in_known_dialect(schema: dict[str, Any]) -> dict[str, Any]:
    dialect = schema.get("$schema")
    if not isinstance(dialect, str) or _DIALECT.match(dialect):
        return schema
    return {keyword: value for keyword, value in schema.items() if keyword != "$schema"}


def _patterns(root: Any) -> Iterator[str]:
    """Every regular expression of a schema that its metaschema accepts."""
    pending = [root]
    while pending:
        schema = pending.pop()
        if isinstance(schema, list):
            pending.extend(schema)
        if not isinstance(schema, dict):
            continue
        if "pattern" in schema:
            yield schema["pattern"]
        yield from schema.get("patternProperties", ())
        pending.extend(schema[keyword] for keyword in _WITHIN & schema.keys())
        for keyword in _NAMED & schema.keys():
            pending.extend(schema[keyword].values())


def _check_pattern(pattern: str) -> None:
    """Raises ValueError or jsonschema_rs.ValidationError."""
    # Of thousands of digits none is an integer; so many repetitions are too many anyway.
    if any(
        len(count) > 9 or int(count or 0) > MAX_REPETITIONS for pair in _REPETITION.findall(pattern) for count in pair
    ):
        raise ValueError(f"{SCHEMA_RULE}, in whose patterns nothing is repeated more than {MAX_REPETITIONS} times")
    # Compiled without them, which is as right or wrong and takes no longer than what is written.
    jsonschema_rs.validator_for({"pattern": _REPETITION.sub("{1}", pattern)})
