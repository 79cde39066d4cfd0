"""Which prompts meet a condition, what the indexes can do for it, and in which order prompts are shown."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from deployments.ingress import wire
from pipeline.query import Narrowed, Range, narrow, parse_query
from pipeline.query.conditions import all_match
from pipeline.query.fields import FIELDS, Kind, nanoseconds
from pipeline.query.order import place, sort_values
from pipeline.states import Status
from tests.unit.test_wire import PROMPTS

DOCUMENT: dict[str, Any] = {
    "id": "prom-1",
    "prompt": "What is AI?",
    "status": "running",
    "sync": True,
    "createdAt": "2026-03-15T08:04:58.000001Z",
    "lastRun": "0001-01-01T00:00:00Z",
    "maxRetries": 4,
    "runCount": 10,
    "fileIds": ["a", "b"],
    "parameters": {
        "textToText": {"temperature": 0.5, "stop": ["x", 3, True], "seed": None, "Key": "k"},
        "one": 1,
        "yes": True,
        "large": 2**53 + 1,
    },
}


def condition(field: str, operator: str, value: Any) -> Any:
    (parsed,) = parse_query({"filters": [{"field": field, "operator": operator, "value": value}]}).conditions
    return parsed


@pytest.mark.parametrize(
    ("field", "operator", "value", "matches"),
    [
        ("status", "equals", "running", True),
        ("status", "equals", "errored", False),
        ("status", "notEquals", "errored", True),
        ("status", "in", ["errored", "running"], True),
        ("status", "gt", "r", True),
        ("sync", "equals", True, True),
        ("sync", "notEquals", True, False),
        # Numbers are compared as such, not as texts.
        ("runCount", "gt", 9, True),
        ("runCount", "gt", 10, False),
        ("runCount", "gte", 10.0, True),
        ("runCount", "lt", 10.5, True),
        ("runCount", "lte", 9, False),
        ("runCount", "equals", 10, True),
        # Missing is null.
        ("error", "equals", None, True),
        ("error", "notEquals", "x", True),
        ("error", "equals", "", False),
        ("error", "containsSubstring", "", False),
        ("type", "in", [None, "x"], True),
        ("runCount", "notEquals", None, True),
        ("parameters.textToText.seed", "equals", None, True),
        ("parameters.textToText.seed", "lt", 5, False),
        ("parameters.textToText.none.of.it", "equals", None, True),
        # Times, whatever the zone and the digits.
        ("createdAt", "equals", "2026-03-15T09:04:58.000001000+01:00", True),
        ("createdAt", "gt", "2026-03-15T08:04:58Z", True),
        ("createdAt", "lt", "2026-03-15T08:04:58.000001001Z", True),
        ("createdAt", "lte", "2026-03-15", False),
        ("lastRun", "equals", "0001-01-01T00:00:00Z", True),
        # Lists.
        ("fileIds", "equals", "b", True),
        ("fileIds", "notEquals", "b", False),
        ("fileIds", "intersects", ["z", "b"], True),
        ("fileIds", "intersects", ["z"], False),
        ("parameters.textToText.stop", "intersects", [3], True),
        ("parameters.textToText.stop", "intersects", [1], False),
        ("parameters.textToText.stop", "equals", True, True),
        ("parameters.textToText.stop", "intersects", [1, True], True),
        ("sync", "in", [False, True], True),
        ("parameters.one", "in", [True, 1], True),
        ("parameters.one", "in", [True, 1.0], True),
        ("parameters.yes", "in", [1, True], True),
        ("parameters.yes", "in", [1, 1.0], False),
        # Exact beyond what a float holds.
        ("parameters.large", "equals", 2**53 + 1, True),
        ("parameters.large", "in", [2**53, 2**53 + 1], True),
        ("parameters.large", "in", [2**53, 2**53 + 2], False),
        ("parameters.large", "gt", 2**53, True),
        ("parameters.large", "gt", 2**53 + 1, False),
        ("parameters.textToText.temperature", "intersects", [0.5], False),
        # What clients sent may be anything: nothing is converted.
        ("parameters.textToText.temperature", "equals", 0.5, True),
        ("parameters.textToText.temperature", "equals", "0.5", False),
        ("parameters.textToText.temperature", "gt", "0", False),
        ("parameters.textToText.temperature", "startsWith", "0", False),
        ("parameters.textToText.Key", "equals", "k", True),
        # Texts, case and all.
        ("prompt", "containsSubstring", "is AI", True),
        ("prompt", "containsSubstring", "is ai", False),
        ("prompt", "startsWith", "What", True),
        ("prompt", "startsWith", "is", False),
    ],
)
def test_conditions(field: str, operator: str, value: Any, matches: bool):
    assert condition(field, operator, value).matches(DOCUMENT) is matches


class Counted(list[Any]):
    """Knows how often it was gone through."""

    def __init__(self, *values: Any) -> None:
        super().__init__(values)
        self.rounds = 0

    def __iter__(self) -> Iterator[Any]:
        self.rounds += 1
        return super().__iter__()


class Compared(str):
    """Knows how often it was compared."""

    __hash__ = str.__hash__
    times = 0

    def __eq__(self, other: object) -> bool:
        Compared.times += 1
        return str(self) == other


def test_a_list_is_gone_through_once_however_many_conditions_look_into_it():
    found = Counted(*range(100))
    filters = [
        {"field": "parameters.x", "operator": operator, "value": value}
        for operator, value in (("intersects", [*range(200, 1200)]), ("equals", 200), ("intersects", [True, 99]))
        for _ in range(10)
    ]
    conditions = parse_query({"filters": [{"op": "or", "subFilters": filters}, filters[-1], filters[-1]]}).conditions
    assert all_match(conditions, {"parameters": {"x": found}})
    assert found.rounds == 1


@pytest.mark.parametrize("operator", ["in", "intersects"])
def test_a_value_is_looked_up_among_those_wanted(operator: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Compared, "times", 0)
    values = [f"v{number}" for number in range(1000)]
    value = Compared("v999")
    document = {"parameters": {"x": value if operator == "in" else [value]}}
    assert condition("parameters.x", operator, values).matches(document)
    assert Compared.times < 10


@pytest.mark.parametrize("found", [[], {}, [[1]], [{"a": 1}], {"a": 1}])
def test_an_array_or_object_within_is_no_value(found: Any):
    document = {"parameters": {"x": found}}
    for operator in ("equals", "in", "intersects"):
        assert not condition("parameters.x", operator, [1] if operator != "equals" else 1).matches(document)
        assert not condition("parameters.x", operator, [None] if operator != "equals" else None).matches(document)


def test_one_of_several_fields_or_filters_is_enough():
    fields = {"fields": ["id", "prompt"], "op": "containsSubstring", "valuesJson": '["AI"]'}
    either = {
        "op": "or",
        "subFilters": [
            {"field": "status", "operator": "equals", "value": "errored"},
            {"op": "or", "subFilters": [{"field": "runCount", "operator": "gt", "value": 3}]},
        ],
    }
    for raw in (fields, either):
        (parsed,) = parse_query({"filters": [raw]}).conditions
        assert parsed.matches(DOCUMENT)
        assert not parsed.matches({"id": "x", "status": "running", "runCount": 3})


def test_what_can_be_filtered_on_is_every_key_that_a_listing_searches():
    with_files = replace(PROMPTS[Status.COMPLETED], file_ids=("file-1",), type="text", error="x", engine_parameters={})
    assert {key for prompt in (*PROMPTS.values(), with_files) for key in wire.searched_object(prompt)} == set(FIELDS)
    kinds = {bool: Kind.FLAG, int: Kind.NUMBER, list: Kind.TEXTS, dict: Kind.ANY}
    for prompt in PROMPTS.values():
        for key, value in wire.prompt_object(prompt).items():
            allowed = {Kind.TEXT, Kind.TIME} if isinstance(value, str) else {kinds[type(value)]}
            assert FIELDS[key] in allowed, key


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("1970-01-01T00:00:01Z", 10**9),
        ("1970-01-01t00:00:00.5z", 5 * 10**8),
        ("1970-01-01 01:00:00.000000001+01:00", 1),
        ("1970-01-02", 86_400 * 10**9),
        ("0001-01-01T00:00:00Z", -62_135_596_800 * 10**9),
        ("0001-01-01T00:00:00+14:00", -62_135_596_800 * 10**9 - 14 * 3600 * 10**9),
        ("0000-01-01", -62_167_219_200 * 10**9),
        ("0000-12-31T23:59:59Z", -62_135_596_801 * 10**9),
        ("9999-12-31T23:59:59.999999999Z", 253_402_300_799_999_999_999),
    ],
)
def test_times(text: str, nanos: int):
    assert nanoseconds(text) == nanos


@pytest.mark.parametrize(
    "text", ["", "now", "20260315", "2026-3-15", "2026-03-15T08:04Z", "2026-03-15T08:04:58", "2026-03-15T25:00:00Z",
             "2026-03-15T08:04:58.0000000001Z", "2026-03-15Z", "2026-13-01", "٢٠٢٦-03-15", "2026-03-15T08:04:58+25:00"]
)  # fmt: skip
def test_what_is_no_time(text: str):
    assert nanoseconds(text) is None


# -- what the indexes can do ------------------------------------------------------------------------------------------------

SECOND = 10**6


def equals(field: str, value: Any) -> dict[str, Any]:
    return {"field": field, "operator": "equals", "value": value}


@pytest.mark.parametrize(
    ("filters", "narrowed"),
    [
        ([equals("id", "a")], Narrowed(ids=frozenset("a"))),
        (
            [{"field": "threadId", "operator": "in", "value": ["a", "b"]}, equals("threadId", "b")],
            Narrowed(threads=frozenset("b")),
        ),
        ([equals("id", "a"), equals("id", "b")], Narrowed(ids=frozenset())),
        ([equals("userId", "u")], Narrowed(users=frozenset("u"))),
        ([equals("status", "running")], Narrowed(statuses=frozenset({Status.RUNNING}))),
        (
            [equals("status", "running"), equals("status", "errored"), equals("status", "running")],
            Narrowed(statuses=frozenset()),
        ),
        (
            [{"field": "status", "operator": "notEquals", "value": "running"}],
            Narrowed(statuses=frozenset(Status) - {Status.RUNNING}),
        ),
        (
            [{"field": "status", "operator": "startsWith", "value": "c"}],
            Narrowed(statuses=frozenset({Status.COMPLETED, Status.CANCELED})),
        ),
        (
            [{"op": "or", "subFilters": [equals("status", "running"), equals("status", "errored")]}],
            Narrowed(statuses=frozenset({Status.RUNNING, Status.ERRORED})),
        ),
        (
            [{"op": "or", "subFilters": [equals("threadId", "a"), equals("threadId", "b")]}],
            Narrowed(threads=frozenset("ab")),
        ),
        (
            [
                {"field": "createdAt", "operator": "gt", "value": "1970-01-01T00:00:01Z"},
                {"field": "createdAt", "operator": "lte", "value": "1970-01-01T00:00:02.0000005Z"},
            ],
            Narrowed(created=Range(first_us=SECOND + 1, last_us=2 * SECOND)),
        ),
        (
            [
                {"field": "createdAt", "operator": "gte", "value": "1970-01-01T00:00:01.0000005Z"},
                {"field": "createdAt", "operator": "lt", "value": "1970-01-01T00:00:02Z"},
            ],
            Narrowed(created=Range(first_us=SECOND + 1, last_us=2 * SECOND - 1)),
        ),
        ([equals("createdAt", "1970-01-01T00:00:01Z")], Narrowed(created=Range(first_us=SECOND, last_us=SECOND))),
        (
            [equals("createdAt", "1970-01-01T00:00:01.0000005Z")],
            Narrowed(created=Range(first_us=SECOND + 1, last_us=SECOND)),
        ),
        # Beyond the indexes.
        ([equals("runCount", 3)], Narrowed(is_exact=False)),
        ([equals("status", "running"), equals("modelId", "m")],
         Narrowed(statuses=frozenset({Status.RUNNING}), is_exact=False)),
        ([{"field": "id", "operator": "startsWith", "value": "a"}], Narrowed(is_exact=False)),
        ([{"field": "id", "operator": "notEquals", "value": "a"}], Narrowed(is_exact=False)),
        ([{"fields": ["id", "threadId"], "op": "equals", "valuesJson": '["a"]'}], Narrowed(is_exact=False)),
        ([{"op": "or", "subFilters": [equals("id", "a"), equals("runCount", 3)]}], Narrowed(is_exact=False)),
        ([{"op": "or", "subFilters": [equals("createdAt", "2026-01-01"), equals("createdAt", "2026-01-02")]}],
         Narrowed(is_exact=False)),
        ([{"field": "createdAt", "operator": "notEquals", "value": "2026-01-01"}], Narrowed(is_exact=False)),
        ([{"field": "createdAt", "operator": "in", "value": ["2026-01-01", "2026-01-02"]}], Narrowed(is_exact=False)),
    ],
)  # fmt: skip
def test_narrowing(filters: list[Any], narrowed: Narrowed):
    assert narrow(parse_query({"filters": filters}).conditions) == narrowed


def test_what_is_left_for_one_user():
    assert Narrowed().of_user("u").users == {"u"}
    assert Narrowed(users=frozenset("uv")).of_user("u").users == {"u"}
    assert Narrowed(users=frozenset("v")).of_user("u").is_empty
    assert Narrowed(created=Range(first_us=2, last_us=1)).is_empty
    assert not Narrowed().is_empty


# -- order ----------------------------------------------------------------------------------------------------------------


def ordered(order: list[dict[str, Any]], documents: list[dict[str, Any]]) -> list[str]:
    keys = parse_query({"orderBy": order}).order

    def at(numbered: tuple[int, dict[str, Any]]) -> Any:
        created_us, document = numbered
        return place(keys, sort_values(keys, document, "seed"), created_us)

    return "".join(document["id"] for _, document in sorted(enumerate(documents), key=at))  # type: ignore[return-value]


def test_orders_of_several_keys_and_the_older_one_first_among_equals():
    documents = [
        {"id": "a", "runCount": 2, "modelId": "x"},
        {"id": "b", "modelId": "y"},
        {"id": "c", "runCount": 10, "modelId": "x"},
        {"id": "d", "runCount": 2, "modelId": "y"},
        {"id": "e", "runCount": 2, "modelId": "x"},
    ]
    assert ordered([{"field": "runCount"}], documents) == "badec"
    assert ordered([{"field": "runCount", "desc": True}], documents) == "cadeb"
    assert ordered([{"field": "modelId", "desc": True}, {"field": "runCount"}], documents) == "bdaec"
    assert ordered([{"field": "modelId"}, {"field": "id", "desc": True}], documents) == "ecadb"


@pytest.mark.parametrize(
    ("sorting", "right"),
    [
        # Missing ones first, then numbers, then texts.
        ("", "ndsbac"),
        ("text", "nsbadc"),
        # What is no number, or no time, counts as missing; numbers are left as they are.
        ("numeric", "ncsadb"),
        ("date", "nabcsd"),
    ],
)
def test_sorting_types(sorting: str, right: str):
    values: dict[str, Any] = {"n": None, "a": "9", "b": "10", "c": "x", "d": 9.5, "s": "08"}
    documents = [{"id": name, "parameters": {"v": value}} for name, value in values.items()]
    assert ordered([{"field": "parameters.v", "sortingType": sorting}], documents) == right


def test_a_random_order_is_another_one_for_another_seed_and_the_same_for_the_same():
    keys = parse_query({"orderBy": [{"sortingType": "random"}]}).order
    documents = [{"id": str(number), "userId": "u"} for number in range(20)]
    orders = [
        [number for _, number in sorted((sort_values(keys, d, seed), d["id"]) for d in documents)]
        for seed in ("a", "a", "b")
    ]
    assert orders[0] == orders[1] != orders[2]
    assert len(set(itertools.chain.from_iterable(orders))) == 20
