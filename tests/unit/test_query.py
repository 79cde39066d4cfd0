"""Reading a query: both dialects, and what is refused."""

import base64
import json
from typing import Any

import pytest

from pipeline.errors import InvalidField
from pipeline.query import DEFAULT_LIMIT, MOST, Query, SortedCursor, parse_query
from pipeline.query.conditions import AnyOf, Comparison, Operator
from pipeline.query.fields import parse_path
from pipeline.query.order import Sorting, SortKey


def compare(field: str, operator: Operator, *values: Any) -> Comparison:
    return Comparison(path=parse_path("field", field), operator=operator, values=values)


def by(field: str, descending: bool = False, sorting: Sorting = Sorting.DEFAULT) -> SortKey:
    return SortKey(path=parse_path("field", field), descending=descending, sorting=sorting)


ACTIVE = (compare("status", Operator.IN, "scheduled", "running", "errored"),)
BY_STATUS = {"field": "status", "operator": "in", "value": ["scheduled", "running"]}
IN_STATUS = compare("status", Operator.IN, "scheduled", "running")
US = 1_773_561_898_000_001
TIME = "2026-03-15T08:04:58.000001Z"


@pytest.mark.parametrize("raw", [None, {}, {"filters": []}, {"limit": 0}, "{}", {"orderBys": []}, {"filters": None}])
def test_nothing_asked_for_lists_what_is_active(raw: Any):
    assert parse_query(raw) == Query(conditions=ACTIVE)


@pytest.mark.parametrize(
    ("raw", "query"),
    [
        ({"filters": [BY_STATUS]}, Query(conditions=(IN_STATUS,))),
        (
            {"filters": [{"field": "id", "operator": "equals", "value": "a"}]},
            Query(conditions=(compare("id", Operator.EQUALS, "a"),)),
        ),
        (
            {"filters": [{"field": "threadId", "operator": "in", "value": ["a", "b", "a"]}]},
            Query(conditions=(compare("threadId", Operator.IN, "a", "b"),)),
        ),
        (
            {"filters": [{"field": "runCount", "operator": "gt", "value": 3}]},
            Query(conditions=(compare("runCount", Operator.GT, 3.0),)),
        ),
        (
            {"filters": [{"field": "error", "operator": "notEquals", "value": None}]},
            Query(conditions=(compare("error", Operator.NOT_EQUALS, None),)),
        ),
        (
            {"filters": [{"field": "createdAt", "operator": "gte", "value": TIME}]},
            Query(conditions=(compare("createdAt", Operator.GTE, US * 1000),)),
        ),
        (
            {"orderBy": [{"field": "createdAt", "desc": True}], "limit": 10},
            Query(order=(by("createdAt", True),), limit=10),
        ),
        (
            {"orderBy": [{"field": "status"}, {"field": "createdAt", "desc": True}]},
            Query(order=(by("status"), by("createdAt", True))),
        ),
        ({"filters": [BY_STATUS], "count": True}, Query(conditions=(IN_STATUS,), count=True)),
        (
            {"filters": [{"field": "parameters.x", "operator": "in", "value": [True, 1, 1.0, True]}]},
            Query(conditions=(compare("parameters.x", Operator.IN, True, 1),)),
        ),
    ],
)
def test_the_dialect_of_the_document(raw: dict[str, Any], query: Query):
    assert parse_query(raw) == query


def test_the_dialect_of_the_published_clients():
    raw = {
        "filters": [
            {"fields": ["status"], "op": "isInList", "valuesJson": '["running","scheduled"]'},
            {"fields": ["threadId"], "op": "equals", "valuesJson": '["t"]'},
            {"fields": ["id", "modelId"], "op": "startsWith", "valuesJson": '["x"]'},
            {"op": "or", "subFilters": [{"fields": ["sync"], "op": "equals", "valuesJson": "[true]"}]},
        ],
        "orderBys": [{"field": "modelId", "desc": True, "sortingType": "text"}, {"field": "createdAt"}],
        "limit": 7,
        "count": True,
    }
    assert parse_query(raw) == Query(
        conditions=(
            compare("status", Operator.IN, "running", "scheduled"),
            compare("threadId", Operator.EQUALS, "t"),
            AnyOf(conditions=(compare("id", Operator.STARTS_WITH, "x"), compare("modelId", Operator.STARTS_WITH, "x"))),
            AnyOf(conditions=(compare("sync", Operator.EQUALS, True),)),
        ),
        order=(by("modelId", True, Sorting.TEXT), by("createdAt")),
        limit=7,
        count=True,
    )


def test_the_command_line_sends_every_part_as_text():
    raw = {
        "filters": json.dumps([BY_STATUS]),
        "orderBy": '[{"field": "createdAt", "desc": "true"}]',
        "limit": "3",
        "count": "true",
    }
    expected = Query(conditions=(IN_STATUS,), order=(by("createdAt", True),), limit=3, count=True)
    assert parse_query(raw) == parse_query(json.dumps(raw)) == expected


def test_keys_match_without_regard_to_case_and_fields_but_for_their_first_letter():
    raw = {
        "Filters": [{"Field": "Parameters.TextToText.Template", "OPERATOR": "equals", "Value": "x"}],
        "ORDERBY": [{"Field": "CreatedAt", "Desc": True}],
    }
    (condition,) = parse_query(raw).conditions
    assert condition.matches({"parameters": {"textToText": {"template": "x"}}})
    assert parse_query(raw).order == (by("createdAt", True),)


@pytest.mark.parametrize("after", [TIME, [TIME], json.dumps([TIME]), "2026-03-15T09:04:58.000001+01:00"])
@pytest.mark.parametrize("descending", [False, True])
def test_after_is_the_creation_of_the_last_prompt(after: Any, descending: bool):
    order = [{"field": "createdAt", "desc": descending}]
    assert parse_query({"orderBy": order, "after": after}).after == US


def test_after_json_is_after_in_an_array():
    assert parse_query({"afterJson": json.dumps([TIME])}).after == US
    # One value per key of the order; behind the creation none matters.
    order = [{"field": "createdAt"}, {"field": "status"}]
    assert parse_query({"orderBys": order, "afterJson": json.dumps([TIME, "running"])}).after == US


@pytest.mark.parametrize(("descending", "after"), [(False, US), (True, US + 1)])
def test_a_cursor_between_two_microseconds_skips_nothing(descending: bool, after: int):
    order = [{"field": "createdAt", "desc": descending}]
    assert parse_query({"orderBy": order, "after": TIME.replace("1Z", "1500Z")}).after == after


@pytest.mark.parametrize("after", [None, "", [], "[]"])
def test_an_empty_cursor_is_none(after: Any):
    assert parse_query({"after": after}).after is None


def test_a_cursor_of_another_order_is_opaque_and_comes_back():
    cursor = SortedCursor(newest_us=9, oldest_us=None, values=((2, 3), (3, "x")), created_us=5, seed="s")
    order = [{"field": "runCount"}, {"field": "modelId"}]
    for after in (str(cursor), [str(cursor)], json.dumps([str(cursor)])):
        assert parse_query({"orderBy": order, "after": after}).after == cursor
    assert parse_query({"orderBy": order, "afterJson": json.dumps([str(cursor)])}).after == cursor


@pytest.mark.parametrize(
    ("limit", "parsed"),
    [
        (None, DEFAULT_LIMIT),
        (0, DEFAULT_LIMIT),
        (1, 1),
        (MOST, MOST),
        ("20", 20),
        ("+20", 20),
        ("0", 20),
        (20.0, 20),
    ],
)
def test_limit(limit: Any, parsed: int):
    assert parse_query({"limit": limit}).limit == parsed


def only(**changes: Any) -> dict[str, Any]:
    return {"filters": [{"field": "status", "operator": "equals", "value": "running", **changes}]}


def order(**changes: Any) -> dict[str, Any]:
    return {"orderBy": [{"field": "createdAt", **changes}]}


def nested(levels: int) -> dict[str, Any]:
    inner: dict[str, Any] = {"field": "sync", "operator": "equals", "value": True}
    for _ in range(levels):
        inner = {"operator": "or", "subFilters": [inner]}
    return {"filters": [inner]}


REFUSALS = {
    "query a list": ([], "query: got an array, allowed is an object"),
    "query no JSON": ("{", "query: got a string of 1 characters, allowed is JSON"),
    "filters an object": ({"filters": {}}, "query.filters: got an object, allowed is an array"),
    "filters no JSON": ({"filters": "status"}, "query.filters: got a string of 6 characters, allowed is JSON"),
    "filters NaN": ({"filters": "[NaN]"}, "query.filters: got a string of 5 characters, allowed is JSON"),
    "filter a string": ({"filters": ["x"]}, "query.filters.0: got a string of 1 characters"),
    "second filter": ({"filters": [BY_STATUS, 5]}, "query.filters.1: got a number"),
    "too many filters": ({"filters": [BY_STATUS] * 101}, "query.filters.100: got one more filter, allowed is 100"),
    "filters too deep": (nested(6), "query.filters.0.subFilters.0.subFilters.0"),
    "or of nothing": ({"filters": [{"operator": "or"}]}, "query.filters.0.subFilters: got []"),
    "or in an or": (
        {"filters": [{"op": "or", "subFilters": [{"field": "x", "op": "equals"}]}]},
        "query.filters.0.subFilters.0.field: got 'x'",
    ),
    "field unknown": (only(field="mood"), "query.filters.0.field: got 'mood', allowed is one of id, threadId, status"),
    "field unknown to clients": (only(field="place"), "query.filters.0.field: got 'place'"),
    "field missing": ({"filters": [{"operator": "equals"}]}, "query.filters.0.field: got None"),
    "field a list": (only(field=["status"]), "query.filters.0.field: got ['status']"),
    "field too deep": (only(field="parameters" + ".x" * 17), "query.filters.0.field"),
    "field below a text": (
        only(field="status.x"),
        "query.filters.0.field: got 'status.x', allowed is a key, or several",
    ),
    "field with a hole": (only(field="parameters..x"), "query.filters.0.field: got 'parameters..x'"),
    "second field unknown": (only(fields=["id", "mood"]), "query.filters.0.fields: got 'mood'"),
    "fields a string": (only(fields="status"), "query.filters.0.fields: got 'status'"),
    "fields a number": (only(fields=[5]), "query.filters.0.fields: got 5"),
    "operator unknown": (
        only(operator="like"),
        "query.filters.0.operator: got 'like', allowed is one of equals, notEquals, in",
    ),
    "op unknown": (only(op="like"), "query.filters.0.op: got 'like', allowed is one of equals"),
    "operator missing": ({"filters": [{"field": "id", "value": "x"}]}, "query.filters.0.operator: got None"),
    "operator a list": (only(operator=["in"]), "query.filters.0.operator: got ['in']"),
    "operator for another kind": (
        only(field="sync", operator="gt"),
        "query.filters.0.operator: got 'gt', allowed is one of equals, notEquals, in for sync",
    ),
    "substring of a time": (
        only(field="createdAt", operator="containsSubstring"),
        "query.filters.0.operator: got 'containsSubstring'",
    ),
    "intersects a text": (
        only(operator="intersects"),
        "query.filters.0.operator: got 'intersects', allowed is one of equals",
    ),
    "in a list": (
        only(field="fileIds", operator="in"),
        "query.filters.0.operator: got 'in', allowed is one of equals, notEquals, intersects for fileIds",
    ),
    "value missing": (
        {"filters": [{"field": "id", "operator": "equals"}]},
        "query.filters.0.value: got nothing, allowed is a string for id",
    ),
    "value null": (only(value=None), "query.filters.0.value: got None, allowed is a string for status"),
    "value a number": (only(value=5), "query.filters.0.value: got 5"),
    "value a text": (
        only(field="runCount", value="3"),
        "query.filters.0.value: got '3', allowed is a number or null for runCount",
    ),
    "value a boolean": (only(field="runCount", value=True), "query.filters.0.value: got True"),
    "value no time": (
        only(field="createdAt", value="yesterday"),
        "query.filters.0.value: got 'yesterday', allowed is a time (RFC 3339) for createdAt",
    ),
    "value an impossible time": (
        only(field="lastRun", value="2026-02-30T00:00:00Z"),
        "query.filters.0.value: got '2026-02-30T00:00:00Z'",
    ),
    "value an object": (
        only(field="parameters.x", value={"secret": 1}),
        "query.filters.0.value: got an object, allowed is a string, a number",
    ),
    "value of a private field": (
        only(field="prompt", value=["secret", 1]),
        "query.filters.0.value: got an array, allowed is one value",
    ),
    "value null for a substring": (
        only(field="error", operator="containsSubstring", value=None),
        "query.filters.0.value: got None, allowed is a string for `containsSubstring`",
    ),
    "values empty": (only(operator="in", value=[]), "query.filters.0.value: got 0 values, allowed is 1 to 1000 values"),
    "values too many": (only(field="id", operator="in", value=["x"] * 1001), "query.filters.0.value: got 1001 values"),
    "two values for equals": (only(value=["running", "errored"]), "query.filters.0.value: got ['running', 'errored']"),
    "valuesJson no JSON": (
        only(valuesJson="x"),
        "query.filters.0.valuesJson: got a string of 1 characters, allowed is JSON",
    ),
    "valuesJson no array": (
        only(valuesJson='{"a":1}'),
        "query.filters.0.valuesJson: got an object, allowed is an array",
    ),
    "status unknown": (
        only(value="done"),
        "query.filters.0.value: got 'done', allowed is one of scheduled, running, completed",
    ),
    "order no array": ({"orderBy": {}}, "query.orderBy: got an object, allowed is an array"),
    "order a string": ({"orderBys": ["createdAt"]}, "query.orderBys.0: got a string of 9 characters"),
    "order by an unknown field": (order(field="mood"), "query.orderBy.0.field: got 'mood'"),
    "order by no text at random": (order(field="", sortingType="random"), "query.orderBy.0.field: got ''"),
    "order by nothing": ({"orderBy": [{}]}, "query.orderBy.0.field: got None"),
    "order by too many": ({"orderBy": [{"field": "id"}] * 11}, "query.orderBy: got 11 keys, allowed is at most 10"),
    "sortingType unknown": (
        order(sortingType="natural"),
        "query.orderBy.0.sortingType: got 'natural', allowed is one of '', 'numeric'",
    ),
    "sortingType a list": (order(sortingType=["text"]), "query.orderBy.0.sortingType: got ['text']"),
    "sortingType of a time": (
        order(sortingType="numeric"),
        "query.orderBy.0.sortingType: got 'numeric', allowed is 'date'",
    ),
    "desc a word": (order(desc="yes"), "query.orderBy.0.desc: got 'yes'"),
    "limit negative": ({"limit": -1}, "query.limit: got -1, allowed is an integer from 1 to 1000"),
    "limit too high": ({"limit": MOST + 1}, "query.limit: got 1001"),
    "limit a boolean": ({"limit": True}, "query.limit: got True"),
    "limit false": ({"limit": False}, "query.limit: got False"),
    "limit a fraction": ({"limit": 1.5}, "query.limit: got 1.5"),
    "limit a digit that is no number": ({"limit": "²"}, "query.limit: got '²'"),
    "limit a word": ({"limit": "ten"}, "query.limit: got 'ten'"),
    "limit other digits": ({"limit": "٣"}, "query.limit: got '٣'"),
    "count a number": ({"count": 1}, "query.count: got 1, allowed is true or false"),
    "after a word": ({"after": "x"}, "query.after: got another cursor, allowed is the `after` of a page"),
    "after a number": ({"after": 5}, "query.after: got another cursor"),
    "after of another order": ({"after": TIME, **order(field="runCount")}, "query.after: got another cursor"),
    "afterJson no JSON": ({"afterJson": TIME}, "query.afterJson: got no JSON"),
    "afterJson no array": ({"afterJson": '"x"'}, "query.afterJson: got no array"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_names_the_field_and_what_is_allowed(name: str):
    raw, message = REFUSALS[name]
    with pytest.raises(InvalidField) as refused:
        parse_query(raw)
    assert refused.value.message.startswith(message)
    assert "allowed is" in refused.value.message
    assert "secret" not in refused.value.message
    assert refused.value.status == 400


DEEP = "[" * 1000 + "]" * 1000


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (f'{{"limit":{DEEP}}}', "query"),
        (f'{{"filters":[{{"field":{DEEP}}}]}}', "query"),
        ({"filters": DEEP}, "query.filters"),
        (only(valuesJson=DEEP), "query.filters.0.valuesJson"),
        ({"orderBy": DEEP}, "query.orderBy"),
        ('{"filters":"[\\u0000]"}', "query"),
        (only(valuesJson='["a\\u0000"]'), "query.filters.0.valuesJson"),
        (only(valuesJson='["\\ud800"]'), "query.filters.0.valuesJson"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_json_text_in_a_query_has_the_bounds_of_a_body(raw: Any, field: str):
    with pytest.raises(InvalidField) as refused:
        parse_query(raw)
    assert refused.value.message.startswith(f"{field}: got a string of ")
    assert "allowed is JSON of at most 64 levels, without NUL" in refused.value.message


@pytest.mark.parametrize("after", [DEEP, '["a\\u0000"]'], ids=["deep", "NUL"])
def test_a_cursor_in_json_text_has_the_bounds_of_a_body(after: str):
    with pytest.raises(InvalidField, match=r"query\.afterJson: got no JSON"):
        parse_query({"afterJson": after})


def test_an_error_names_a_nested_value_by_its_kind():
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert InvalidField("x", deep, "y").message == "x: got an array, allowed is y"
    assert InvalidField("x", {"a": deep}, "y").message == "x: got an object, allowed is y"


@pytest.mark.parametrize(
    ("value", "got"),
    [
        ([1, None, "a"], "[1, None, 'a']"),
        ({"a": 1}, "{'a': 1}"),
        ([0] * 8, str([0] * 8)),
        ([0] * 9, "an array"),
        ([[]], "an array"),
        (["x" * 100], "['" + "x" * 77 + "…"),
    ],
)
def test_an_error_shows_a_small_flat_value(value: object, got: str):
    assert InvalidField("x", value, "y").message == f"x: got {got}, allowed is y"


def _cursor(state: Any) -> str:
    return "~" + base64.urlsafe_b64encode(json.dumps(state).encode()).decode()


@pytest.mark.parametrize(
    "after",
    [
        "~",
        "~é",
        "~!!!",
        _cursor({}),
        _cursor([1, 2, 3]),
        _cursor([1, None, [[0, 0], [0, 0]], 0, ""]),
        _cursor(["1", None, None, 0, ""]),
        _cursor([True, None, None, 0, ""]),
        _cursor([1, None, [[3, 5]], 0, ""]),
        _cursor([1, None, [[2, "5"]], 0, ""]),
        _cursor([1, None, [[2, True]], 0, ""]),
        _cursor([1, None, [[9, 5]], 0, ""]),
        _cursor([1, None, [5], 0, ""]),
        _cursor([1, None, 5, 0, ""]),
        _cursor([10**400, None, None, 0, ""]),
        _cursor([1, None, None, 0, 7]),
        # Such a text costs Python's own JSON and ``str`` more levels than they have.
        "~" + base64.urlsafe_b64encode(f"[1,null,null,0,{'[' * 1000}{']' * 1000}]".encode()).decode(),
    ],
)
def test_an_invented_cursor_is_refused(after: str):
    with pytest.raises(InvalidField, match=r"query\.after: got another cursor"):
        parse_query({"orderBy": [{"field": "runCount"}], "after": after})
