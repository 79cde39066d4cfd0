"""What a listing asks for, in either dialect of the query language (contract 1backend §8).

The document writes ``field``, ``operator``, ``value`` and ``orderBy``, the published clients ``fields``, ``op``, ``valuesJson``
and ``orderBys``; the command line sends arrays and objects as their JSON text (§9.3).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import InvalidField, Shown, kind_of
from pipeline.json_text import MAX_DEPTH, InvalidJson
from pipeline.json_text import parse as parse_json
from pipeline.query.conditions import KINDS, SEVERAL, AnyOf, Comparison, Condition, Operator
from pipeline.query.fields import Kind, Path, nanoseconds, parse_path, parse_value, shown
from pipeline.query.order import (
    SortedCursor,
    Sorting,
    SortKey,
    is_by_creation,
    is_descending,
    is_sorted_cursor,
)
from pipeline.states import Status

DEFAULT_LIMIT = 20
MOST = 1000
#: Filters, those inside of others included.
MOST_FILTERS = 100
MOST_VALUES = 1000
MOST_KEYS = 10
MOST_DEPTH = 5
_OPERATORS = {**{operator.value: operator for operator in Operator}, "isInList": Operator.IN}
_OR = "or"
_JSON_RULE = f"JSON of at most {MAX_DEPTH} levels, without NUL and lone surrogates"
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}\Z")
ACTIVE = (Status.SCHEDULED, Status.RUNNING, Status.ERRORED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """A listing: the prompts that meet all conditions."""

    conditions: tuple[Condition, ...] = ()
    #: None given: by creation, oldest first.
    order: tuple[SortKey, ...] = ()
    limit: int = DEFAULT_LIMIT
    count: bool = False
    #: Where the page before ended: the creation of its last prompt in microseconds, or a cursor of a sorted listing.
    after: int | SortedCursor | None = None

    @property
    def is_by_creation(self) -> bool:
        return is_by_creation(self.order)

    @property
    def is_descending(self) -> bool:
        return is_descending(self.order)


def one_of(field: str, values: Iterable[str]) -> Comparison:
    """The condition that a text field has one of these values."""
    return Comparison(path=parse_path("field", field), operator=Operator.IN, values=tuple(values))


def newest_first() -> tuple[SortKey, ...]:
    return (SortKey(path=parse_path("field", "createdAt"), descending=True),)


def parse_query(raw: Any) -> Query:
    """The query of a listing request; None and {} list what is active (product document, "List active prompts").

    Raises:
        InvalidField: names what is not understood.
    """
    keys = _Keys("query", _decoded("query", raw if raw is not None else {}, dict))
    filters = _list("query.filters", keys.get("filters"))
    order = _order(keys)
    conditions = _Filters().parse_all("query.filters", filters)
    if not filters and not order:
        conditions = (one_of("status", (status.value for status in ACTIVE)),)
    return Query(
        conditions=conditions,
        order=order,
        limit=_limit(keys.get("limit")),
        count=_flag("query.count", keys.get("count")),
        after=_after(keys, order),
    )


class _Keys:
    """An object whose keys match without regard to case; an exact match wins (contract §0.2)."""

    def __init__(self, where: str, raw: Mapping[str, Any]) -> None:
        self.where = where
        self._raw = raw
        self._lower = {name.lower(): name for name in raw}

    def __contains__(self, name: str) -> bool:
        return name in self._raw or name.lower() in self._lower

    def get(self, name: str) -> Any:
        return self._raw[name] if name in self._raw else self._raw.get(self._lower.get(name.lower(), name))

    def first(self, *names: str) -> tuple[str, Any]:
        """The first of several keys of the same meaning that is given (and not null), with its name."""
        for name in names:
            if self.get(name) is not None:
                return name, self.get(name)
        return names[0], None


def _decoded(field: str, value: Any, kind: type) -> Any:
    if isinstance(value, str):
        try:
            value = parse_json(value)
        except InvalidJson:
            # Not shown: somewhere in it may be what a prompt says.
            raise InvalidField(field, Shown(kind_of(value)), _JSON_RULE) from None
    if not isinstance(value, kind):
        raise InvalidField(field, Shown(kind_of(value)), "an object" if kind is dict else "an array")
    return value


def _list(field: str, value: Any) -> list[Any]:
    decoded: list[Any] = [] if value is None else _decoded(field, value, list)
    return decoded


class _Filters:
    """Reads filters, and counts them."""

    def __init__(self) -> None:
        self._seen = 0

    def parse_all(self, where: str, raw: list[Any], depth: int = 0) -> tuple[Condition, ...]:
        return tuple(self._parse(f"{where}.{i}", one, depth) for i, one in enumerate(raw))

    def _parse(self, where: str, raw: Any, depth: int) -> Condition:
        self._seen += 1
        if self._seen > MOST_FILTERS or depth > MOST_DEPTH:
            raise InvalidField(
                where, Shown("one more filter"), f"{MOST_FILTERS} filters, {MOST_DEPTH} within each other"
            )
        if not isinstance(raw, dict):
            raise InvalidField(where, Shown(kind_of(raw)), "an object with field, operator and value")
        keys = _Keys(where, raw)
        spelling, named = keys.first("op", "operator")
        if named == _OR:
            inner = _list(f"{where}.subFilters", keys.get("subFilters"))
            if not inner:
                raise InvalidField(f"{where}.subFilters", inner, "filters of which one must match, for `or`")
            return AnyOf(conditions=self.parse_all(f"{where}.subFilters", inner, depth + 1))
        operator = _OPERATORS.get(named) if isinstance(named, str) else None
        paths = _paths(keys)
        if operator is None:
            spelling = "operator" if named is None else spelling
            raise InvalidField(f"{where}.{spelling}", named, f"one of {', '.join((*_OPERATORS, _OR))}")
        comparisons = tuple(_comparison(keys, path, operator) for path in paths)
        self._seen += len(comparisons) - 1
        return comparisons[0] if len(comparisons) == 1 else AnyOf(conditions=comparisons)


def _paths(keys: _Keys) -> list[Path]:
    """The fields of a filter, of which one must match."""
    where, fields = keys.where, keys.get("fields")
    if not fields:
        return [parse_path(f"{where}.field", keys.get("field"))]
    if not isinstance(fields, list) or len(fields) > MOST_KEYS:
        raise InvalidField(f"{where}.fields", fields, f"a list of at most {MOST_KEYS} fields")
    return list(dict.fromkeys(parse_path(f"{where}.fields", field) for field in fields))


def _comparison(keys: _Keys, path: Path, operator: Operator) -> Comparison:
    where = keys.where
    if path.kind not in KINDS.get(operator, Kind):
        suited = [name.value for name in Operator if path.kind in KINDS.get(name, Kind)]
        raise InvalidField(f"{where}.operator", operator.value, f"one of {', '.join(suited)} for {path}")
    name, raw = _raw_values(keys, path)
    if operator not in SEVERAL and len(raw) != 1:
        raise InvalidField(f"{where}.{name}", shown(path, raw), f"one value for `{operator}`")
    if not 0 < len(raw) <= MOST_VALUES:
        raise InvalidField(
            f"{where}.{name}", Shown(f"{len(raw)} values"), f"1 to {MOST_VALUES} values for `{operator}`"
        )
    values = [_value(f"{where}.{name}", path, operator, value) for value in raw]
    # Each once; True is 1 in Python and is not in JSON.
    distinct = {(isinstance(value, bool), value): value for value in values}
    return Comparison(path=path, operator=operator, values=tuple(distinct.values()))


def _raw_values(keys: _Keys, path: Path) -> tuple[str, list[Any]]:
    text = keys.get("valuesJson")
    if text is not None:
        return "valuesJson", _decoded(f"{keys.where}.valuesJson", text, list)
    if "value" not in keys:
        raise InvalidField(f"{keys.where}.value", Shown("nothing"), f"{path.kind} for {path}")
    value = keys.get("value")
    return "value", value if isinstance(value, list) else [value]


def _value(where: str, path: Path, operator: Operator, raw: Any) -> Any:
    value = parse_value(where, path, raw)
    if str(path) == "status" and operator in (Operator.EQUALS, Operator.NOT_EQUALS, Operator.IN):
        _status(where, value)
    if operator in (Operator.CONTAINS, Operator.STARTS_WITH) and not isinstance(value, str):
        raise InvalidField(where, shown(path, raw), f"a string for `{operator}`")
    return value


def _status(where: str, value: Any) -> None:
    if value not in list(Status):
        raise InvalidField(where, value, f"one of {', '.join(Status)}")


def _order(keys: _Keys) -> tuple[SortKey, ...]:
    name, raw = keys.first("orderBys", "orderBy")
    order = _list(f"query.{name}", raw)
    if len(order) > MOST_KEYS:
        raise InvalidField(f"query.{name}", Shown(f"{len(order)} keys"), f"at most {MOST_KEYS}")
    return tuple(_sort_key(f"query.{name}.{i}", one) for i, one in enumerate(order))


def _sort_key(where: str, raw: Any) -> SortKey:
    if not isinstance(raw, dict):
        raise InvalidField(where, Shown(kind_of(raw)), "an object with field and desc")
    keys = _Keys(where, raw)
    named = keys.get("sortingType")
    if named is not None and named not in list(Sorting):
        raise InvalidField(f"{where}.sortingType", named, f"one of {', '.join(repr(s.value) for s in Sorting)}")
    sorting = Sorting(named or "")
    # A random order needs no field.
    field = keys.get("field")
    if field is None and sorting is Sorting.RANDOM:
        field = "id"
    path = parse_path(f"{where}.field", field)
    if sorting is Sorting.NUMERIC and path.kind is Kind.TIME:
        raise InvalidField(f"{where}.sortingType", named, f"'date', 'text' or none for {path}")
    return SortKey(path=path, descending=_flag(f"{where}.desc", keys.get("desc")), sorting=sorting)


def _after(keys: _Keys, order: tuple[SortKey, ...]) -> int | SortedCursor | None:
    """``after`` as an answer gave it, or ``afterJson``: a JSON array around it (one value per key of the order)."""
    name, raw = keys.first("after", "afterJson")
    where = f"query.{name}"
    if raw is None or raw in ("", [], "[]"):
        return None
    if name == "afterJson" or isinstance(raw, list) or (isinstance(raw, str) and raw[:1] == "["):
        raw = _after_in_array(where, raw)
    if isinstance(raw, str) and is_sorted_cursor(raw) and not is_by_creation(order):
        return SortedCursor.parse(where, raw, order)
    if not is_by_creation(order):
        raise InvalidField(where, Shown("another cursor"), "the `after` of a page in the same order")
    time = nanoseconds(raw) if isinstance(raw, str) else None
    if time is None:
        raise InvalidField(where, Shown("another cursor"), "the `after` of a page: the createdAt of its last prompt")
    # Oldest first, the next ones are later by at least a microsecond; newest first they are earlier than what is cut off here.
    return -(-time // 1000) if is_descending(order) else time // 1000


def _after_in_array(where: str, raw: Any) -> Any:
    if isinstance(raw, str):
        try:
            raw = parse_json(raw)
        except InvalidJson:
            raise InvalidField(where, Shown("no JSON"), "a JSON array that holds the `after` of a page") from None
    if not isinstance(raw, list) or not raw:
        raise InvalidField(where, Shown("no array"), "a JSON array that holds the `after` of a page")
    return raw[0]


def _limit(value: Any) -> int:
    # JSON Schema takes 20.0 for an integer.
    if (isinstance(value, str) and _INTEGER.match(value)) or (isinstance(value, float) and value.is_integer()):
        value = int(value)
    if value is None or (value == 0 and value is not False):
        return DEFAULT_LIMIT
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
        raise InvalidField("query.limit", value, f"an integer from 1 to {MOST}")
    return value


def _flag(field: str, value: Any) -> bool:
    if value is None:
        return False
    if isinstance(value, str) and value in {"true", "false"}:
        return value == "true"
    if not isinstance(value, bool):
        raise InvalidField(field, value, "true or false")
    return value
