"""What a listing asks for: filters, order, limit, count (contract 1backend §8), in either dialect.

This much of the language is understood: ``equals`` and ``in`` (``isInList``) on ``id``, ``threadId`` and ``status``, order by
``createdAt``. Everything else is refused by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import InvalidField
from pipeline.states import Status

DEFAULT_LIMIT = 20
MOST = 1000
FIELDS = ("id", "threadId", "status")
_OPERATORS = {"equals": "equals", "in": "in", "isInList": "in"}
#: ``isdigit`` would let in what ``int`` does not take, such as "²".
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}\Z")
_ACTIVE = (Status.SCHEDULED, Status.RUNNING, Status.ERRORED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """A listing. A field that is None is not filtered on; filters are joined by "and"."""

    ids: tuple[str, ...] | None = None
    thread_ids: tuple[str, ...] | None = None
    statuses: tuple[Status, ...] | None = None
    #: Newest first.
    descending: bool = False
    limit: int = DEFAULT_LIMIT
    count: bool = False


def parse_query(raw: Any) -> Query:
    """The query of a listing request; None and {} list what is active (product document, "List active prompts").

    Raises:
        InvalidField: names what is not understood.
    """
    raw = _decoded("query", raw if raw is not None else {}, dict)
    filters = [_parse_filter(f"query.filters.{i}", f) for i, f in enumerate(_list(raw, "filters"))]
    order = _list(raw, "orderBys") or _list(raw, "orderBy")
    chosen: dict[str, tuple[str, ...]] = {}
    for field, values in filters:
        before = chosen.get(field)
        chosen[field] = values if before is None else tuple(value for value in before if value in values)
    statuses = chosen.get("status")
    if not filters and not order:
        statuses = tuple(status.value for status in _ACTIVE)
    return Query(
        ids=chosen.get("id"),
        thread_ids=chosen.get("threadId"),
        statuses=None if statuses is None else tuple(_status(value) for value in statuses),
        descending=_descending(order),
        limit=_limit(raw.get("limit")),
        count=_flag("query.count", raw.get("count")),
    )


def _decoded(field: str, value: Any, kind: type) -> Any:
    """The command line sends arrays and objects as their JSON text (contract §9.3)."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise InvalidField(field, value, "JSON") from None
    if not isinstance(value, kind):
        raise InvalidField(field, value, "an object" if kind is dict else "an array")
    return value


def _list(raw: Mapping[str, Any], name: str) -> list[Any]:
    value = raw.get(name)
    return [] if value is None else _decoded(f"query.{name}", value, list)


def _parse_filter(path: str, raw: Any) -> tuple[str, tuple[str, ...]]:
    if not isinstance(raw, dict):
        raise InvalidField(path, raw, "an object with field, operator and value")
    fields = raw.get("fields") or [raw.get("field")]
    if not isinstance(fields, list) or len(fields) != 1 or fields[0] not in FIELDS:
        raise InvalidField(f"{path}.field", raw.get("fields", raw.get("field")), f"one of {', '.join(FIELDS)}")
    named = raw.get("op", raw.get("operator"))
    operator = _OPERATORS.get(named) if isinstance(named, str) else None
    if operator is None:
        raise InvalidField(f"{path}.operator", named, f"one of {', '.join(_OPERATORS)}")
    if "valuesJson" in raw:
        values = _decoded(f"{path}.valuesJson", raw["valuesJson"], list)
    else:
        value = raw.get("value")
        values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(value, str) for value in values):
        raise InvalidField(f"{path}.value", values, "a string, or for `in` a list of strings")
    if operator == "equals" and len(values) != 1:
        raise InvalidField(f"{path}.value", values, "one string for `equals`")
    return fields[0], tuple(dict.fromkeys(values))


def _status(value: str) -> Status:
    try:
        return Status(value)
    except ValueError:
        raise InvalidField("status", value, f"one of {', '.join(Status)}") from None


def _descending(order: list[Any]) -> bool:
    if not order:
        return False
    first = order[0]
    if len(order) > 1 or not isinstance(first, dict) or first.get("field") != "createdAt":
        raise InvalidField("query.orderBy", order, "[{field: createdAt, desc: true or false}]")
    return _flag("query.orderBy.0.desc", first.get("desc"))


def _limit(value: Any) -> int:
    if isinstance(value, str) and _INTEGER.match(value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is None:
        return DEFAULT_LIMIT
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST:
        raise InvalidField("query.limit", value, f"an integer from 1 to {MOST}")
    return value or DEFAULT_LIMIT


def _flag(field: str, value: Any) -> bool:
    if value is None:
        return False
    if isinstance(value, str) and value in {"true", "false"}:
        return value == "true"
    if not isinstance(value, bool):
        raise InvalidField(field, value, "true or false")
    return value
