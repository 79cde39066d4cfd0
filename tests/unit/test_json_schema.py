"""What is taken for a JSON schema: what its metaschema says, in a time that a hostile one cannot stretch."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import SchemaError

from deployments.ingress.json_schema import MAX_SCHEMA_BYTES, SCHEMA_RULE, check_schema

DRAFT_4 = "http://json-schema.org/draft-04/schema#"
DRAFT_7 = "http://json-schema.org/draft-07/schema#"
#: Lines of Python for a byte of a schema.
MOST_LINES = 40


def is_schema(value: dict[str, Any]) -> bool:
    try:
        assert check_schema(value) is value
    except ValueError:
        return False
    return True


def is_valid(value: dict[str, Any]) -> bool:
    try:
        Draft202012Validator.check_schema(value, format_checker=FormatChecker(["regex"]))
    except SchemaError:
        return False
    return True


KEYWORDS = (
    "$anchor", "$comment", "$defs", "$dynamicAnchor", "$dynamicRef", "$id", "$ref", "$schema", "$vocabulary",
    "additionalItems", "additionalProperties", "allOf", "anyOf", "const", "contains", "contentEncoding",
    "contentMediaType", "contentSchema", "default", "definitions", "dependencies", "dependentRequired",
    "dependentSchemas", "deprecated", "description", "else", "enum", "examples", "exclusiveMaximum",
    "exclusiveMinimum", "format", "if", "items", "maxContains", "maxItems", "maxLength", "maxProperties", "maximum",
    "minContains", "minItems", "minLength", "minProperties", "minimum", "multipleOf", "not", "oneOf", "pattern",
    "patternProperties", "prefixItems", "properties", "propertyNames", "readOnly", "required", "then", "title",
    "type", "unevaluatedItems", "unevaluatedProperties", "uniqueItems", "unknown", "writeOnly",
)  # fmt: skip
WORDS = st.sampled_from(["string", "null", "a", "a#", "a#b", "(", "^a", ""])
SCALARS = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, -1.0, 1.5, 1e300]) | WORDS
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYWORDS), inner, max_size=3)
        | st.dictionaries(WORDS, inner, max_size=2)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(KEYWORDS), VALUES, min_size=1, max_size=2))
def test_a_schema_is_what_the_metaschema_says(value: dict[str, Any]):
    assert is_schema(value) == is_valid(value)


EXAMPLES: list[Any] = [
    None, True, 1, 1.0, -1, 0, 0.5, "string", "(", "a#b", [], ["string"], ["a", "a"], [1], [{}], [True, {"type": 1}], {},
    {"a": True}, {"a": 1}, {"(": {}}, {"a": ["a"]}, {"a": {"not": 1}}, {"items": []}, {"properties": {"a": []}},
]  # fmt: skip


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_every_keyword_has_the_values_of_the_metaschema(keyword: str):
    accepted = [value for value in EXAMPLES if is_schema({keyword: value})]
    assert accepted == [value for value in EXAMPLES if is_valid({keyword: value})]


@pytest.mark.parametrize(
    "value",
    [
        {"$schema": DRAFT_7, "items": [{"type": "string"}, True], "additionalItems": False},
        {"$schema": DRAFT_4, "minimum": 0, "exclusiveMinimum": True},
        {"$schema": "https://json-schema.org/draft/2020-12/schema", "prefixItems": [{}]},
        {"$schema": "urn:unknown", "type": "object"},
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
    "enum of mixed types": as_large_as_may_be(f'{{"$schema":"{DRAFT_4}","enum":["a",', NUMBERS, "]}"),
    "type of mixed types": as_large_as_may_be('{"type":["a",', NUMBERS, "]}"),
    "required of mixed types": as_large_as_may_be('{"required":["a",', NUMBERS, "]}"),
    "required": as_large_as_may_be('{"required":[', [f'"{number}"' for number in NUMBERS], "]}"),
    "schemas": as_large_as_may_be('{"allOf":[', ["{}"] * 20_000, "]}"),
    "properties": as_large_as_may_be('{"properties":{', [f'"{number}":{{}}' for number in NUMBERS], "}}"),
    "ranges of characters": {"pattern": "(?i)" + "[!-\uffff]" * 4000},
    "patterns": as_large_as_may_be('{"patternProperties":{', [f'"[!-\uffff]{n}":{{}}' for n in range(3000)], "}}"),
    "groups in each other": {"pattern": "(?:" * 300 + "a" * 30_000 + ")" * 300},
    "branches with one beginning": {"pattern": "|".join(["a" * 8000] * 4)},
}


@contextmanager
def at_most_lines(most: int) -> Iterator[None]:
    """Raises AssertionError where more lines of Python are run. Counted, because time depends on the machine."""
    left = most

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal left
        left -= event == "line"
        assert left >= 0, f"more than {most} lines"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE.keys())
def test_the_work_is_bounded_by_the_size(value: dict[str, Any]):
    with at_most_lines(MOST_LINES * MAX_SCHEMA_BYTES):
        is_schema(value)
