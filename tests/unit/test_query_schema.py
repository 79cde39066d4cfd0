"""The schema of a query says what the parser takes, and refuses what it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from deployments.ingress.openapi import document
from pipeline.errors import InvalidField
from pipeline.query import parse_query
from tests.unit.whole_table import own_routes

SCHEMA = {"$ref": "#/components/schemas/PromptQuery", "components": document(own_routes())["components"]}
VALIDATOR = Draft202012Validator(SCHEMA)
TIME = "2026-03-15T08:04:58.123456789+01:00"


def only(field: str, operator: str, *value: Any) -> dict[str, Any]:
    """A query with one filter; no value: none."""
    return {"filters": [{"field": field, "operator": operator, **({"value": value[0]} if value else {})}]}


UNDERSTOOD = [
    {},
    {"filters": [], "orderBy": None, "limit": 20.0, "count": "true"},
    {"filters": "[]", "limit": "+20", "count": None},
    only("id", "equals", "x"),
    only("id", "in", ["x", "y"]),
    only("id", "isInList", "x"),
    only("threadId", "startsWith", "x"),
    only("status", "in", ["running", "errored"]),
    only("status", "gt", "r"),
    only("createdAt", "gte", TIME),
    only("lastRun", "equals", None),
    only("runCount", "lt", 2.5),
    only("sync", "notEquals", True),
    only("fileIds", "intersects", ["x"]),
    only("fileIds", "equals", None),
    only("error", "containsSubstring", "out"),
    only("parameters.textToText.template", "equals", [False]),
    only("engineParameters", "gt", 1),
    {"filters": [{"operator": "or", "subFilters": only("id", "equals", "x")["filters"]}]},
    {"orderBy": [{"field": "createdAt", "desc": True}, {"field": "parameters.x", "sortingType": "numeric"}]},
    {"orderBy": [{"sortingType": "random"}]},
    {"orderBy": [{"field": None, "sortingType": "random", "desc": "false"}]},
]
REFUSED = [
    {"limit": False},
    {"limit": 1001},
    {"limit": -1},
    {"limit": 1.5},
    {"count": 1},
    {"filters": {}},
    {"filters": [1]},
    {"filters": [{}]},
    {"filters": [{"operator": "or"}]},
    {"filters": [{"operator": "or", "subFilters": []}]},
    only("id", "equals"),
    only("id", "equals", None),
    only("id", "equals", 1),
    only("id", "equals", ["x", "y"]),
    only("id", "in", []),
    only("id", "intersects", "x"),
    only("id", "like", "x"),
    only("mood", "equals", "x"),
    only("id.x", "equals", "x"),
    only("status", "equals", "done"),
    only("createdAt", "startsWith", "2026"),
    only("createdAt", "equals", None),
    only("runCount", "equals", "3"),
    only("runCount", "equals", True),
    only("sync", "gt", True),
    only("sync", "equals", "true"),
    only("fileIds", "in", ["x"]),
    only("error", "containsSubstring", None),
    only("parameters..x", "equals", "x"),
    only("parameters", "equals", {}),
    {"orderBy": [{}]},
    {"orderBy": [{"field": "mood"}]},
    {"orderBy": [{"field": "createdAt", "sortingType": "numeric"}]},
    {"orderBy": [{"field": "", "sortingType": "random"}]},
    {"orderBy": [{"field": "id", "desc": 1}]},
    {"orderBy": [{"field": "id"}] * 11},
]


def accepts(query: Any) -> bool:
    try:
        parse_query(query)
    except InvalidField:
        return False
    return True


@pytest.mark.parametrize("query", UNDERSTOOD, ids=json.dumps)
def test_what_is_understood_is_valid(query: Any):
    assert accepts(query)
    assert VALIDATOR.is_valid(query)


@pytest.mark.parametrize("query", REFUSED, ids=json.dumps)
def test_what_is_refused_is_not_valid(query: Any):
    assert not accepts(query)
    assert not VALIDATOR.is_valid(query)
