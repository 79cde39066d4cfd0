"""The Range header: one range of bytes, the only kind that clients of files ask for (RFC 9110 §14)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_RANGE = re.compile(r"bytes=(?P<first>[0-9]{0,18})-(?P<last>[0-9]{0,18})\Z")


class NotSatisfiable(Exception):
    """The range lies outside of the file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """Bytes ``start`` up to ``stop``, which is not part of it."""

    start: int
    stop: int


def requested_span(header: str, size: int) -> Span | None:
    """What a Range header asks for of ``size`` bytes, cut to what is there. None for the whole file: also where the header is
    malformed or asks for several ranges, as the standard allows, so that nobody can ask for a file a thousand times at once.

    Raises:
        NotSatisfiable: nothing of it is there.
    """
    match = _RANGE.match(header.strip())
    if match is None:
        return None
    first, last = match["first"], match["last"]
    if first:
        start, stop = int(first), int(last) + 1 if last else size
        if last and stop <= start:
            return None
    elif last:
        start, stop = max(0, size - int(last)), size
    else:
        return None
    stop = min(stop, size)
    if start >= stop:
        raise NotSatisfiable
    return Span(start=start, stop=stop)
