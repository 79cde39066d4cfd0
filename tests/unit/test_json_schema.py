"""What is taken for a JSON schema: what its metaschema says, in a time that a hostile one cannot stretch."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest

from deployments.ingress.json_schema import MAX_SCHEMA_BYTES, SCHEMA_RULE, check_schema

DRAFT_4 = "http://json-schema.org/draft-04/schema#"
DRAFT_7 = "http://json-schema.org/draft-07/schema#"


def is_schema(value: dict[str, Any]) -> bool:
    try:
        assert check_schema(value) is value
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    "value",
    [
        {"$schema": DRAFT_7, "items": [{"type": "string"}, True], "additionalItems": False},
        {"$schema": DRAFT_4, "minimum": 0, "exclusiveMinimum": True},
        {"$schema": "https://json-schema.org/draft/2020-12/schema", "prefixItems": [{}]},
        {"$schema": "urn:unknown", "type": "object"},
        {"properties": {"summary": {"type": "string", "pattern": r"^[\s\S]{1,2000}$"}}},
        {"properties": {name: {"pattern": r"^(?<y>\d{4})-(?P<m>\d\d)$"} for name in ("from", "to")}},
        # Not every key of that name is a keyword, and not every keyword is known.
        {"properties": {"pattern": {"type": "string"}}, "example": {"pattern": "**/*.py"}, "default": {"pattern": "("}},
    ],
)
def test_what_clients_write_in_older_dialects_is_understood(value: dict[str, Any]):
    assert is_schema(value)


@pytest.mark.parametrize(
    "value",
    [
        {"$schema": 1},
        {"$schema": {}},
        {"$schema": DRAFT_7, "items": [{"type": 1}]},
        {"$schema": DRAFT_4, "exclusiveMinimum": "0"},
        {"items": [{}]},
        {"pattern": "a{4294967295}"},
        {"pattern": f"a{{{'9' * 5000}}}"},
        {"pattern": "(" * 10_000},
        {"patternProperties": {"a{4294967295}": {}}},
        {"properties": {"default": {"type": "string", "pattern": "["}}},
        {"dependencies": {"a": {"items": [{"pattern": "("}]}}, "$schema": DRAFT_7},
        {"maximum": 99999999999999999999},
        {"const": -99999999999999999999},
        {"maximum": float("inf")},
        {"title": "x" * MAX_SCHEMA_BYTES},
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_none_is_refused_with_the_rule(value: dict[str, Any]):
    with pytest.raises(ValueError, match=re.escape(SCHEMA_RULE)):
        check_schema(value)


def as_large_as_may_be(opening: str, items: list[str], closing: str) -> dict[str, Any]:
    """A schema of nearly ``MAX_SCHEMA_BYTES`` from as many of the items as go in, in JSON."""
    text, left = [], MAX_SCHEMA_BYTES - len(opening) - len(closing)
    for item in items:
        left -= len(item.encode()) + 1
        if left < 0:
            break
        text.append(item)
    value: dict[str, Any] = orjson.loads(f"{opening}{','.join(text)}{closing}")
    assert 0.8 * MAX_SCHEMA_BYTES < len(orjson.dumps(value)) <= MAX_SCHEMA_BYTES
    return value


NUMBERS = [str(number) for number in range(20_000)]
HOSTILE = {
    "enum of mixed types": (as_large_as_may_be(f'{{"$schema":"{DRAFT_4}","enum":["a",', NUMBERS, "]}"), True),
    "type of mixed types": (as_large_as_may_be('{"type":["a",', NUMBERS, "]}"), False),
    "required of mixed types": (as_large_as_may_be('{"required":["a",', NUMBERS, "]}"), False),
    "required": (as_large_as_may_be('{"required":[', [f'"{number}"' for number in NUMBERS], "]}"), True),
    "schemas": (as_large_as_may_be('{"allOf":[', ["{}"] * 20_000, "]}"), True),
    "properties": (as_large_as_may_be('{"properties":{', [f'"{number}":{{}}' for number in NUMBERS], "}}"), True),
    "ranges of characters": ({"pattern": "[!-\uffff]" * 3000}, True),
    "patterns": (
        as_large_as_may_be('{"patternProperties":{', [f'"[!-\uffff]{n}":{{}}' for n in range(3000)], "}}"),
        True,
    ),
    "repetitions": (
        as_large_as_may_be('{"patternProperties":{', [f'"a{{{n}}}":{{}}' for n in range(5000, 9000)], "}}"),
        True,
    ),
    "repetitions of repetitions": ({"pattern": r"((\p{L}{999}){999}){999}"}, True),
    "branches with one beginning": ({"pattern": "|".join(["a" * 8000] * 4)}, True),
}


@pytest.mark.parametrize(("value", "is_one"), HOSTILE.values(), ids=HOSTILE.keys())
def test_what_took_seconds_or_minutes_is_told(value: dict[str, Any], is_one: bool):
    """How long it takes is ``jsonschema_rs``'s promise: with ``jsonschema`` this ran for two minutes."""
    assert is_schema(value) is is_one
