"""In which order a listing shows its prompts, and where in it a page ended.

Ordered by creation, a prompt's place never changes and no two share one: the cursor is the ``createdAt`` of the last prompt,
as the original has it. Any other order is sorted from a window of prompts, and its cursor remembers the window and the place
in it; to clients it is a string like any other.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import total_ordering
from typing import Any, Self

import orjson

from pipeline.errors import InvalidField, Shown
from pipeline.json_text import InvalidJson, parse
from pipeline.query.fields import Kind, Path, nanoseconds

#: Texts are sorted by their beginning: a cursor carries what it stands at.
SORTED_CHARACTERS = 256
#: Marks a cursor of a sorted listing; no time begins so.
_SORTED = "~"


class Sorting(StrEnum):
    """How the values of a key are compared; ``sortingType`` of the published clients."""

    DEFAULT = ""
    NUMERIC = "numeric"
    TEXT = "text"
    DATE = "date"
    RANDOM = "random"


@dataclass(frozen=True, kw_only=True, slots=True)
class SortKey:
    path: Path
    descending: bool = False
    sorting: Sorting = Sorting.DEFAULT


@dataclass(frozen=True, kw_only=True, slots=True)
class SortedCursor:
    """Behind a prompt of a window, or before the first one of the next window."""

    #: The window: prompts created between, microseconds, both included. None: no end.
    newest_us: int
    oldest_us: int | None
    #: The prompt: the values it was sorted by and its creation. None: before the first.
    values: tuple[Any, ...] | None
    created_us: int = 0
    #: Makes a random order the same on every page.
    seed: str = ""

    def __str__(self) -> str:
        state = [self.newest_us, self.oldest_us, self.values, self.created_us, self.seed]
        return _SORTED + base64.urlsafe_b64encode(orjson.dumps(state)).decode().rstrip("=")

    @classmethod
    def parse(cls, where: str, raw: str, keys: Sequence[SortKey]) -> Self:
        """Raises InvalidField: it is not from a listing in this order."""
        try:
            newest, oldest, values, created, seed = parse(base64.urlsafe_b64decode(raw[1:] + "=="))
            numbers = (newest, created, 0 if oldest is None else oldest)
            if any(isinstance(number, bool) or not isinstance(number, int) for number in numbers):
                raise ValueError
            if not isinstance(seed, str):
                raise ValueError
            if values is not None:
                values = tuple(_ranked(rank, value) for rank, value in values)
                if len(values) != len(keys):
                    raise ValueError
        except (InvalidJson, ValueError, TypeError, binascii.Error):
            raise InvalidField(where, Shown("another cursor"), "the `after` of a page in the same order") from None
        return cls(newest_us=newest, oldest_us=oldest, values=values, created_us=created, seed=seed)


def _ranked(rank: Any, value: Any) -> tuple[int, str | float]:
    """A value that compares with those of its rank."""
    if isinstance(rank, bool) or rank not in range(5) or isinstance(value, bool):
        raise ValueError
    if not isinstance(value, str if rank >= 3 else int | float):
        raise ValueError
    return rank, value


def is_by_creation(keys: Sequence[SortKey]) -> bool:
    """Nothing that follows ``createdAt`` as first key matters: no two prompts share it."""
    return not keys or (str(keys[0].path) == "createdAt" and keys[0].sorting is not Sorting.RANDOM)


def is_descending(keys: Sequence[SortKey]) -> bool:
    """Of a listing by creation."""
    return bool(keys) and keys[0].descending


def is_sorted_cursor(raw: str) -> bool:
    return raw.startswith(_SORTED)


def sort_values(keys: Sequence[SortKey], document: Mapping[str, Any], seed: str) -> tuple[Any, ...]:
    """What a Prompt object is sorted by: for each key a rank and a value that compares with its like."""
    return tuple(_sort_value(key, document, seed) for key in keys)


def place(keys: Sequence[SortKey], values: Sequence[Any], created_us: int) -> tuple[Any, ...]:
    """Compares as the prompts are to be shown; among equals the older one is first."""
    return (
        *(_Descending(value) if key.descending else value for key, value in zip(keys, values, strict=True)),
        created_us,
    )


def _sort_value(key: SortKey, document: Mapping[str, Any], seed: str) -> tuple[int, Any]:
    """Missing ones first; then true and false, numbers and times, texts, and anything else by its JSON text."""
    if key.sorting is Sorting.RANDOM:
        identity = f"{seed}/{document.get('userId')}/{document.get('id')}"
        return (3, hashlib.blake2b(identity.encode(), digest_size=8).hexdigest())
    found = key.path.read(document)
    if key.path.kind is Kind.TIME and found is not None:
        # What a page is given has microseconds; and nanoseconds of "never" are more than a cursor's JSON can hold.
        return (2, found // 1000)
    if key.sorting is Sorting.NUMERIC and isinstance(found, str):
        found = _number(found)
    elif key.sorting is Sorting.DATE and isinstance(found, str):
        nanos = nanoseconds(found)
        found = None if nanos is None else nanos // 1000
    elif key.sorting is Sorting.TEXT and found is not None and not isinstance(found, str):
        found = orjson.dumps(found).decode()
    if found is None:
        return (0, 0)
    if isinstance(found, bool):
        return (1, int(found))
    if isinstance(found, int | float):
        return (2, found)
    if isinstance(found, str):
        return (3, found[:SORTED_CHARACTERS])
    return (4, orjson.dumps(found, option=orjson.OPT_SORT_KEYS).decode()[:SORTED_CHARACTERS])


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if number - number == 0 else None


@total_ordering
class _Descending:
    """Turns the order of what it holds around."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Descending) and bool(self._value == other._value)

    def __lt__(self, other: _Descending) -> bool:
        return bool(other._value < self._value)
