"""The conditions of a listing, and whether a Prompt object meets them (contract 1backend §8)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One field compared with one value, or with several."""

    path: Path
    operator: Operator
    values: tuple[Value, ...]

    def matches(self, document: Mapping[str, Any]) -> bool:
        """Missing is null: equal to null alone, neither more nor less than anything. Nothing is converted: "3" is not 3."""
        found = self.path.read(document)
        value = self.values[0] if self.values else None
        match self.operator:
            case Operator.EQUALS:
                return _equals(found, value)
            case Operator.NOT_EQUALS:
                return not _equals(found, value)
            case Operator.IN:
                return any(_is_same(found, value) for value in self.values)
            case Operator.INTERSECTS:
                return isinstance(found, list) and any(_is_same(item, value) for item in found for value in self.values)
            case Operator.CONTAINS:
                return isinstance(found, str) and isinstance(value, str) and value in found
            case Operator.STARTS_WITH:
                return isinstance(found, str) and isinstance(value, str) and found.startswith(value)
            case _:
                return _COMPARED[self.operator](found, value)


@dataclass(frozen=True, kw_only=True, slots=True)
class AnyOf:
    """Met if one of its conditions is."""

    conditions: tuple[Condition, ...]

    def matches(self, document: Mapping[str, Any]) -> bool:
        return any(condition.matches(document) for condition in self.conditions)


Condition: TypeAlias = Comparison | AnyOf


def _equals(found: Any, value: Value) -> bool:
    """An array equals what it contains."""
    return any(_is_same(item, value) for item in found) if isinstance(found, list) else _is_same(found, value)


def _is_same(found: Any, value: Value) -> bool:
    # True is 1 in Python and is not in JSON.
    return isinstance(found, bool) == isinstance(value, bool) and bool(found == value)


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
