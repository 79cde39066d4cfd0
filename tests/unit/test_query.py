import json
from typing import Any

import pytest

from pipeline.errors import InvalidField
from pipeline.query import DEFAULT_LIMIT, MOST, Query, parse_query
from pipeline.states import Status

ACTIVE = (Status.SCHEDULED, Status.RUNNING, Status.ERRORED)
BY_STATUS = {"field": "status", "operator": "in", "value": ["scheduled", "running"]}


@pytest.mark.parametrize("raw", [None, {}, {"filters": []}, {"limit": 0}, "{}"])
def test_nothing_asked_for_lists_what_is_active(raw: Any):
    assert parse_query(raw) == Query(statuses=ACTIVE)


@pytest.mark.parametrize(
    ("raw", "query"),
    [
        ({"filters": [BY_STATUS]}, Query(statuses=(Status.SCHEDULED, Status.RUNNING))),
        ({"filters": [{"field": "id", "operator": "equals", "value": "a"}]}, Query(ids=("a",))),
        (
            {"filters": [{"field": "threadId", "operator": "in", "value": ["a", "b", "a"]}]},
            Query(thread_ids=("a", "b")),
        ),
        ({"orderBy": [{"field": "createdAt", "desc": True}], "limit": 10}, Query(descending=True, limit=10)),
        ({"orderBy": [{"field": "createdAt"}]}, Query()),
        ({"filters": [BY_STATUS], "count": True}, Query(statuses=(Status.SCHEDULED, Status.RUNNING), count=True)),
    ],
)
def test_the_dialect_of_the_document(raw: dict[str, Any], query: Query):
    assert parse_query(raw) == query


def test_the_dialect_of_the_published_clients():
    raw = {
        "filters": [
            {"fields": ["status"], "op": "isInList", "valuesJson": '["running","scheduled"]'},
            {"fields": ["threadId"], "op": "equals", "valuesJson": '["t"]'},
        ],
        "orderBys": [{"field": "createdAt", "desc": True}],
        "limit": 7,
        "count": True,
    }
    assert parse_query(raw) == Query(
        statuses=(Status.RUNNING, Status.SCHEDULED), thread_ids=("t",), descending=True, limit=7, count=True
    )


def test_the_command_line_sends_every_part_as_text():
    raw = {
        "filters": json.dumps([BY_STATUS]),
        "orderBy": '[{"field": "createdAt", "desc": "true"}]',
        "limit": "3",
        "count": "true",
    }
    expected = Query(statuses=(Status.SCHEDULED, Status.RUNNING), descending=True, limit=3, count=True)
    assert parse_query(raw) == parse_query(json.dumps(raw)) == expected


def test_filters_on_one_field_are_joined_by_and():
    raw = {"filters": [BY_STATUS, {"field": "status", "operator": "equals", "value": "running"}]}
    assert parse_query(raw).statuses == (Status.RUNNING,)


def test_filters_that_contradict_each_other_match_nothing():
    raw = {"filters": [{"field": "id", "operator": "equals", "value": value} for value in ("a", "b")]}
    assert parse_query(raw).ids == ()


def test_a_filter_that_does_not_name_the_status_lists_every_status():
    assert parse_query({"filters": [{"field": "threadId", "operator": "equals", "value": "t"}]}).statuses is None


@pytest.mark.parametrize(
    ("limit", "parsed"),
    [(None, DEFAULT_LIMIT), (0, DEFAULT_LIMIT), (1, 1), (MOST, MOST), ("20", 20), ("+20", 20), (20.0, 20)],
)
def test_limit(limit: Any, parsed: int):
    assert parse_query({"limit": limit}).limit == parsed


def only(**changes: Any) -> dict[str, Any]:
    return {"filters": [{"field": "status", "operator": "equals", "value": "running", **changes}]}


REFUSALS = {
    "query a list": ([], "query: got [], allowed is an object"),
    "query no JSON": ("{", "query: got '{', allowed is JSON"),
    "filters an object": ({"filters": {}}, "query.filters: got {}, allowed is an array"),
    "filters no JSON": ({"filters": "status"}, "query.filters: got 'status', allowed is JSON"),
    "filter a string": ({"filters": ["x"]}, "query.filters.0: got 'x'"),
    "second filter": ({"filters": [BY_STATUS, 5]}, "query.filters.1: got 5"),
    "field unknown": (only(field="userId"), "query.filters.0.field: got 'userId', allowed is one of id, threadId, status"),
    "field missing": ({"filters": [{"operator": "equals"}]}, "query.filters.0.field: got None"),
    "field a list": (only(field=["status"]), "query.filters.0.field"),
    "two fields": (only(fields=["id", "status"]), "query.filters.0.field: got ['id', 'status']"),
    "fields a string": (only(fields="status"), "query.filters.0.field: got 'status'"),
    "operator unknown": (only(operator="gt"), "query.filters.0.operator: got 'gt', allowed is one of equals, in"),
    "operator missing": ({"filters": [{"field": "id", "value": "x"}]}, "query.filters.0.operator: got None"),
    "operator a list": (only(operator=["in"]), "query.filters.0.operator: got ['in']"),
    "value missing": (only(value=None), "query.filters.0.value: got [None]"),
    "value a number": (only(value=5), "query.filters.0.value: got [5]"),
    "value empty": (only(operator="in", value=[]), "query.filters.0.value: got []"),
    "two values for equals": (only(value=["running", "errored"]), "query.filters.0.value"),
    "valuesJson no JSON": (only(valuesJson="x"), "query.filters.0.valuesJson: got 'x', allowed is JSON"),
    "valuesJson no array": (only(valuesJson='{"a":1}'), "query.filters.0.valuesJson"),
    "status unknown": (only(value="done"), "status: got 'done', allowed is one of scheduled, running, completed"),
    "order by another field": ({"orderBy": [{"field": "status"}]}, "query.orderBy: got"),
    "order by two": ({"orderBys": [{"field": "createdAt"}] * 2}, "query.orderBy: got"),
    "order a string": ({"orderBy": ["createdAt"]}, "query.orderBy: got ['createdAt']"),
    "desc a word": ({"orderBy": [{"field": "createdAt", "desc": "yes"}]}, "query.orderBy.0.desc: got 'yes'"),
    "limit negative": ({"limit": -1}, "query.limit: got -1, allowed is an integer from 1 to 1000"),
    "limit too high": ({"limit": MOST + 1}, "query.limit: got 1001"),
    "limit a boolean": ({"limit": True}, "query.limit: got True"),
    "limit the other boolean": ({"limit": False}, "query.limit: got False"),
    "limit a fraction": ({"limit": 1.5}, "query.limit: got 1.5"),
    "limit a digit that is no number": ({"limit": "²"}, "query.limit: got '²'"),
    "limit a word": ({"limit": "ten"}, "query.limit: got 'ten'"),
    "count a number": ({"count": 1}, "query.count: got 1, allowed is true or false"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_names_the_field_and_what_is_allowed(name: str):
    raw, message = REFUSALS[name]
    with pytest.raises(InvalidField) as refused:
        parse_query(raw)
    assert refused.value.message.startswith(message)
    assert "allowed is" in refused.value.message
    assert refused.value.status == 400
