"""What the indexes of the store can do for a listing: which ids, threads, statuses, users and times its conditions leave over."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pipeline.query.conditions import AnyOf, Comparison, Condition, Operator
from pipeline.states import Status

#: Fields of which the store knows the prompts of each value.
_INDEXED = ("id", "threadId", "userId")
#: Microseconds that a score of the store's indexes holds exactly: until the year 2255.
LATEST_US = 2**53


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """Times of creation, microseconds since the epoch, both ends included."""

    first_us: int = 0
    last_us: int = LATEST_US

    def __and__(self, other: Range) -> Range:
        return Range(first_us=max(self.first_us, other.first_us), last_us=min(self.last_us, other.last_us))

    @property
    def is_empty(self) -> bool:
        return self.first_us > self.last_us

    def after(self, us: int, *, descending: bool) -> Range:
        """What comes behind a prompt of this range."""
        return self & (Range(last_us=us - 1) if descending else Range(first_us=us + 1))


@dataclass(frozen=True, kw_only=True, slots=True)
class Narrowed:
    """None: every value. All prompts that meet the conditions are within."""

    ids: frozenset[str] | None = None
    threads: frozenset[str] | None = None
    users: frozenset[str] | None = None
    statuses: frozenset[Status] | None = None
    created: Range = Range()
    #: All prompts within meet the conditions.
    is_exact: bool = True

    @property
    def is_empty(self) -> bool:
        nothing: frozenset[str] = frozenset()
        return self.created.is_empty or nothing in (self.ids, self.threads, self.users, self.statuses)

    def of_user(self, user_id: str) -> Narrowed:
        """Without the prompts of others."""
        return replace(self, users=_and(self.users, frozenset({user_id})))


def narrow(conditions: Iterable[Condition]) -> Narrowed:
    """What all of the conditions leave over."""
    values: dict[str, frozenset[str]] = {}
    statuses: frozenset[Status] | None = None
    created = Range()
    is_exact = True
    for condition in conditions:
        fields = _fields(condition)
        if fields == {"status"}:
            statuses = frozenset(
                status
                for status in (Status if statuses is None else statuses)
                if condition.matches({"status": status.value})
            )
        elif (chosen := _values(condition)) is not None:
            (field,) = fields
            values[field] = _and(values.get(field), chosen)
        elif isinstance(condition, Comparison) and (times := _range(condition)) is not None:
            created = created & times
        else:
            is_exact = False
    return Narrowed(
        ids=values.get("id"),
        threads=values.get("threadId"),
        users=values.get("userId"),
        statuses=statuses,
        created=created,
        is_exact=is_exact,
    )


def _and(one: frozenset[str] | None, other: frozenset[str]) -> frozenset[str]:
    return other if one is None else one & other


def _fields(condition: Condition) -> set[str]:
    if isinstance(condition, AnyOf):
        return {field for inner in condition.conditions for field in _fields(inner)}
    return {str(condition.path)}


def _values(condition: Condition) -> frozenset[str] | None:
    """The values of its one indexed field that meet the condition; None if it is not of that kind."""
    if isinstance(condition, AnyOf):
        inner = [_values(one) for one in condition.conditions]
        if len(_fields(condition)) != 1 or None in inner:
            return None
        return frozenset(value for chosen in inner if chosen is not None for value in chosen)
    if str(condition.path) not in _INDEXED or condition.operator not in (Operator.EQUALS, Operator.IN):
        return None
    return frozenset(value for value in condition.values if isinstance(value, str))


def _range(condition: Comparison) -> Range | None:
    """The times of creation that meet the condition, whose value has nanoseconds; None if it is about something else."""
    (value, *others) = condition.values
    if str(condition.path) != "createdAt" or others or not isinstance(value, int):
        return None
    before, at = divmod(value, 1000)
    first_not_below = before + (at > 0)
    match condition.operator:
        case Operator.EQUALS | Operator.IN:
            return Range(first_us=first_not_below, last_us=before)
        case Operator.GT:
            return Range(first_us=before + 1)
        case Operator.GTE:
            return Range(first_us=first_not_below)
        case Operator.LT:
            return Range(last_us=first_not_below - 1)
        case Operator.LTE:
            return Range(last_us=before)
        case _:
            return None
