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
#: What holds values, not schemas.
_VALUES = frozenset({"const", "default", "enum", "examples"})
#: Bytes of all patterns of a schema once they are compiled, which bounds the time it takes.
_PATTERNS = jsonschema_rs.FancyRegexOptions(size_limit=1 << 20)


def check_schema(value: dict[str, Any]) -> dict[str, Any]:
    """The schema itself. Raises ValueError with what is allowed."""
    try:
        if depth_exceeds(value, MAX_SCHEMA_DEPTH) or len(orjson.dumps(value)) > MAX_SCHEMA_BYTES:
            raise ValueError(SCHEMA_RULE)
        jsonschema_rs.meta.validate(_in_known_dialect(value))
        # In one, each in a group of its own: thousands take no longer than what they are together.
        patterns = "|".join(f"(?:{pattern})" for pattern in _patterns(value))
        if patterns:
            jsonschema_rs.validator_for({"pattern": patterns}, pattern_options=_PATTERNS)
    # orjson's: an integer beyond 64 bits, which other notations than JSON can hold.
    except (jsonschema_rs.ValidationError, orjson.JSONEncodeError):
        raise ValueError(SCHEMA_RULE) from None
    return value


def _in_known_dialect(schema: dict[str, Any]) -> dict[str, Any]:
    dialect = schema.get("$schema")
    if not isinstance(dialect, str) or _DIALECT.match(dialect):
        return schema
    return {keyword: value for keyword, value in schema.items() if keyword != "$schema"}


def _patterns(schema: Any) -> Iterator[str]:
    """Every regular expression in it."""
    pending = [schema]
    while pending:
        found = pending.pop()
        if isinstance(found, list):
            pending.extend(found)
        elif isinstance(found, dict):
            if isinstance(found.get("pattern"), str):
                yield found["pattern"]
            if isinstance(found.get("patternProperties"), dict):
                yield from found["patternProperties"]
            pending.extend(value for keyword, value in found.items() if keyword not in _VALUES)
