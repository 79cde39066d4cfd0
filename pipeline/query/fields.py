"""What a listing can filter and sort by: paths into the Prompt object as its caller is shown it, and the values found there."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeAlias

from pipeline.errors import InvalidField, Shown, kind_of

#: A value as it is compared: times are nanoseconds since the epoch, missing ones None. An integer stays one: beyond 2**53 a
#: float is another number.
Value: TypeAlias = str | int | float | bool | None

MOST_PARTS = 16
MOST_CHARACTERS = 256
_DAYS_OF_400_YEARS = 146_097
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d))?\Z", re.ASCII
)  # RFC 3339, or a date alone


class Kind(StrEnum):
    """What a field holds, in the words of an error message."""

    TEXT = "a string"
    NUMBER = "a number"
    TIME = "a time (RFC 3339)"
    FLAG = "true or false"
    TEXTS = "a list of strings"
    #: Whatever the client sent.
    ANY = "any value"


#: The keys of the Prompt object (contract 1backend §1.1), and ``fileIds``, which clients are shown beside it.
FIELDS: Mapping[str, Kind] = {
    "id": Kind.TEXT,
    "threadId": Kind.TEXT,
    "status": Kind.TEXT,
    "userId": Kind.TEXT,
    "createdAt": Kind.TIME,
    "updatedAt": Kind.TIME,
    "lastRun": Kind.TIME,
    "modelId": Kind.TEXT,
    "type": Kind.TEXT,
    "runCount": Kind.NUMBER,
    "maxRetries": Kind.NUMBER,
    "sync": Kind.FLAG,
    "error": Kind.TEXT,
    "prompt": Kind.TEXT,
    "requestMessageId": Kind.TEXT,
    "responseMessageId": Kind.TEXT,
    "fileIds": Kind.TEXTS,
    "parameters": Kind.ANY,
    "engineParameters": Kind.ANY,
}
#: No Prompt object is without them.
_ALWAYS_SET = {"id", "threadId", "status", "userId", "createdAt", "updatedAt", "modelId", "sync", "maxRetries"}
#: What users write into them never shows in an error message.
_PRIVATE = {"prompt", "error", "parameters", "engineParameters"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Path:
    """A place in the Prompt object."""

    parts: tuple[str, ...]
    kind: Kind

    def __str__(self) -> str:
        return ".".join(self.parts)

    @property
    def is_private(self) -> bool:
        return self.parts[0] in _PRIVATE

    @property
    def may_be_missing(self) -> bool:
        return self.parts[0] not in _ALWAYS_SET

    def read(self, document: Mapping[str, Any]) -> Any:
        """What is there: a ``Value``, a list or an object; None if nothing is."""
        found: Any = document
        for part in self.parts:
            if not isinstance(found, Mapping):
                return None
            found = found.get(part, found.get(_lower_first(part)))
        if self.kind is Kind.TIME and isinstance(found, str):
            return nanoseconds(found)
        return found


def parse_path(where: str, raw: object) -> Path:
    """A dotted path of JSON names; the case of each first letter does not matter (contract §8).

    Raises:
        InvalidField: it leads nowhere.
    """
    if not isinstance(raw, str) or not 0 < len(raw) <= MOST_CHARACTERS:
        raise InvalidField(where, raw, f"one of {', '.join(FIELDS)}")
    first, *nested = raw.split(".")
    first = _lower_first(first)
    kind = FIELDS.get(first)
    if kind is None:
        raise InvalidField(where, raw, f"one of {', '.join(FIELDS)}")
    if nested and (kind is not Kind.ANY or not all(nested) or len(nested) >= MOST_PARTS):
        raise InvalidField(where, raw, f"a key, or several with dots between, only below {' and '.join(_objects())}")
    return Path(parts=(first, *nested), kind=kind)


def parse_value(where: str, path: Path, raw: object) -> Value:
    """A value that the field could have.

    Raises:
        InvalidField: the field never has it.
    """
    if raw is None and path.may_be_missing:
        return None
    value: Value = None
    if isinstance(raw, str):
        value = nanoseconds(raw) if path.kind is Kind.TIME else raw
        fits = value is not None and path.kind in (Kind.TEXT, Kind.TEXTS, Kind.TIME, Kind.ANY)
    elif isinstance(raw, bool):
        value = raw
        fits = path.kind in (Kind.FLAG, Kind.ANY)
    elif isinstance(raw, int) or (isinstance(raw, float) and math.isfinite(raw)):
        value = raw
        fits = path.kind in (Kind.NUMBER, Kind.ANY)
    else:
        fits = False
    if not fits:
        allowed = Kind.TEXT if path.kind is Kind.TEXTS else path.kind
        if path.kind is Kind.ANY:
            raise InvalidField(where, shown(path, raw), "a string, a number, true, false or null")
        raise InvalidField(where, shown(path, raw), f"{allowed}{' or null' if path.may_be_missing else ''} for {path}")
    return value


def nanoseconds(text: str) -> int | None:
    """A time in RFC 3339, or a date, as nanoseconds since the epoch; None if it is neither."""
    matched = _TIME.match(text)
    if matched is None:
        return None
    date, time, fraction, offset = matched.groups()
    zone = "+00:00" if offset is None or offset in "Zz" else offset
    # The standard has a year 0 and Python has none; the calendar of the year 400 is the same.
    year, days_off = ("0400", _DAYS_OF_400_YEARS) if date.startswith("0000") else (date[:4], 0)
    try:
        moment = datetime.fromisoformat(f"{year}{date[4:]}T{time or '00:00:00'}{zone}")
    except ValueError:
        return None
    past = moment - _EPOCH
    return ((past.days - days_off) * 86_400 + past.seconds) * 1_000_000_000 + int((fraction or "").ljust(9, "0"))


def shown(path: Path, raw: object) -> object:
    """A value as an error message may show it: never what users write (DESIGN §4, D7)."""
    if path.is_private and isinstance(raw, str | list | dict):
        return Shown(kind_of(raw))
    return raw


def _objects() -> list[str]:
    return [name for name, kind in FIELDS.items() if kind is Kind.ANY]


def _lower_first(part: str) -> str:
    return part[:1].lower() + part[1:]
