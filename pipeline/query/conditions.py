"""The conditions of a listing, and whether a Prompt object meets them (contract 1backend §8)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from pipeline.query.fields import Kind, Path, Value


class Operator(StrEnum):
    EQUALS = "equals"
    NOT_EQUALS = "notEquals"
    IN = "in"
    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"
    INTERSECTS = "intersects"
    CONTAINS = "containsSubstring"
    STARTS_WITH = "startsWith"


#: Kinds of fields an operator makes sense for; the others take all.
KINDS: Mapping[Operator, frozenset[Kind]] = {
    Operator.IN: frozenset(Kind) - {Kind.TEXTS},
    **dict.fromkeys(
        (Operator.GT, Operator.GTE, Operator.LT, Operator.LTE), frozenset({Kind.NUMBER, Kind.TIME, Kind.TEXT, Kind.ANY})
    ),
    Operator.INTERSECTS: frozenset({Kind.TEXTS, Kind.ANY}),
    Operator.CONTAINS: frozenset({Kind.TEXT, Kind.ANY}),
    Operator.STARTS_WITH: frozenset({Kind.TEXT, Kind.ANY}),
}
#: Operators that take several values.
SEVERAL = frozenset({Operator.IN, Operator.INTERSECTS})


class Lists:
    """What the lists of one document hold. Each is gone through once, however many conditions ask: a list may have half a
    million items, and a query a hundred conditions of a thousand values."""

    def __init__(self) -> None:
        # By identity: the document holds on to its lists.
        self._members: dict[int, frozenset[object]] = {}

    def members(self, found: list[Any]) -> frozenset[object]:
        members = self._members.get(id(found))
        if members is None:
            members = self._members[id(found)] = _members(found)
        return members


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One field compared with one value, or with several."""

    path: Path
    operator: Operator
    values: tuple[Value, ...]
    #: The values, to look one up.
    _members: frozenset[object] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_members", _members(self.values))

    def matches(self, document: Mapping[str, Any], lists: Lists | None = None) -> bool:
        """Missing is null: equal to null alone, neither more nor less than anything. Nothing is converted: "3" is not 3.

        ``lists`` are the document's, for several conditions on it."""
        found = self.path.read(document)
        value = self.values[0] if self.values else None
        match self.operator:
            case Operator.EQUALS:
                return self._is_met_by_one(found, lists)
            case Operator.NOT_EQUALS:
                return not self._is_met_by_one(found, lists)
            case Operator.IN:
                return not isinstance(found, list | dict) and _member(found) in self._members
            case Operator.INTERSECTS:
                return isinstance(found, list) and self._meets_a_member(found, lists)
            case Operator.CONTAINS:
                return isinstance(found, str) and isinstance(value, str) and value in found
            case Operator.STARTS_WITH:
                return isinstance(found, str) and isinstance(value, str) and found.startswith(value)
            case _:
                return _COMPARED[self.operator](found, value)

    def _is_met_by_one(self, found: Any, lists: Lists | None) -> bool:
        """An array equals what it contains."""
        if isinstance(found, list):
            return self._meets_a_member(found, lists)
        return not isinstance(found, dict) and _member(found) in self._members

    def _meets_a_member(self, found: list[Any], lists: Lists | None) -> bool:
        return not self._members.isdisjoint((lists or Lists()).members(found))


@dataclass(frozen=True, kw_only=True, slots=True)
class AnyOf:
    """Met if one of its conditions is."""

    conditions: tuple[Condition, ...]

    def matches(self, document: Mapping[str, Any], lists: Lists | None = None) -> bool:
        lists = lists or Lists()
        return any(condition.matches(document, lists) for condition in self.conditions)


Condition: TypeAlias = Comparison | AnyOf


def all_match(conditions: Iterable[Condition], document: Mapping[str, Any]) -> bool:
    lists = Lists()
    return all(condition.matches(document, lists) for condition in conditions)


def _members(values: Iterable[Any]) -> frozenset[object]:
    """What a value is compared with can be found among: no condition asks for an array or object."""
    return frozenset(_member(value) for value in values if not isinstance(value, list | dict))


def _member(value: Any) -> object:
    """Two members are equal if they are the same in JSON: True is 1 in Python."""
    return _FLAGS[value] if isinstance(value, bool) else value


_FLAGS: Mapping[bool, object] = {False: object(), True: object()}


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Value], bool]:
    def compared(found: Any, value: Value) -> bool:
        if isinstance(found, str) and isinstance(value, str):
            return compare(found, value)
        return _is_number(found) and _is_number(value) and compare(found, value)

    return compared


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_COMPARED: Mapping[Operator, Callable[[Any, Value], bool]] = {
    Operator.GT: _ordered(lambda found, value: found > value),
    Operator.GTE: _ordered(lambda found, value: found >= value),
    Operator.LT: _ordered(lambda found, value: found < value),
    Operator.LTE: _ordered(lambda found, value: found <= value),
}
