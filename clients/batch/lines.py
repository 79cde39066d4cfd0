"""The input: one request body per line, read as a stream. What is wrong with a line is said without its text."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import orjson

from clients.errors import Refused

#: What a line may hold: the keys of the body of POST /prompt-svc/prompt but for ``sync``, and ``id``, the line's own.
KEYS = frozenset(
    {
        "prompt",
        "threadId",
        "modelId",
        "maxRetries",
        "history",
        "fileIds",
        "imageUrl",
        "parameters",
        "engineParameters",
        "type",
        "priority",
        "templateName",
        "variables",
    }
)
#: Longest line, bytes: as much as the service takes by default (``max_body_bytes``).
MAX_LINE_BYTES = 1024 * 1024
#: Levels of arrays and objects that the service takes.
MAX_DEPTH = 64
_BOM = b"\xef\xbb\xbf"
_ID_RULE = "a string of 1 to 256 characters, or an integer"
_SHOWN_KEY = 64
#: Read at once when looking for the last line's beginning, bytes.
_PIECE = 64 * 1024


class BadLine(Refused):
    """A line that is not sent: what is wrong with it shows here already."""

    #: The line's own id, if it has one that can be read.
    own_id: str | int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A line of the input."""

    #: 1 is the first; it identifies the line.
    number: int
    #: The line itself, None if it is longer than any may be.
    raw: bytes | None

    @property
    def is_blank(self) -> bool:
        return self.raw is not None and not self.raw.strip()


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What a line asks for."""

    #: The line's own id, which comes back with its answer.
    id: str | int | None
    #: The body to submit, without an id.
    body: dict[str, Any]


def read_lines(file: BinaryIO, *, max_bytes: int = MAX_LINE_BYTES) -> Iterator[Line]:
    """The lines of a file that is open at its beginning, in order; of none more than ``max_bytes`` in memory."""
    # Before anything is measured: it is no part of the first line.
    if file.read(len(_BOM)) != _BOM:
        file.seek(0)
    number = 0
    while raw := file.readline(max_bytes + 2):
        number += 1
        # Without a line end, and shorter than what was asked for, it is the file's last.
        is_whole = raw.endswith(b"\n") or len(raw) < max_bytes + 2
        raw = raw.rstrip(b"\r\n")
        if not is_whole or len(raw) > max_bytes:
            while not is_whole and (rest := file.readline(max_bytes)):
                is_whole = rest.endswith(b"\n")
            yield Line(number=number, raw=None)
        else:
            yield Line(number=number, raw=raw)


@dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """How far an input goes at a moment in which somebody may be writing it."""

    #: Of its lines that are whole.
    bytes: int
    #: Whether the beginning of another line is behind them.
    has_rest: bool


def extent(file: BinaryIO, *, max_bytes: int = MAX_LINE_BYTES) -> Extent:
    """Measure an input. A last line without a line end is whole if it is a JSON object: of those no beginning is one.

    The file is left at its end.
    """
    size = begin = file.seek(0, os.SEEK_END)
    while begin:
        at = max(0, begin - _PIECE)
        file.seek(at)
        if (found := file.read(begin - at).rfind(b"\n")) >= 0:
            begin = at + found + 1
            break
        begin = at
    file.seek(begin)
    last = file.read(min(size - begin, max_bytes + len(_BOM) + 1))
    if begin == 0:
        last = last.removeprefix(_BOM)
    if not last.strip():
        return Extent(bytes=begin, has_rest=False)
    is_whole = len(last) <= max_bytes and _is_object(last)
    return Extent(bytes=size if is_whole else begin, has_rest=not is_whole)


def parse(line: Line, *, max_bytes: int = MAX_LINE_BYTES) -> Request:
    """What the line asks for.

    Raises:
        BadLine: it is too long or nested too deeply, no JSON object, or has a key that no line has. The message holds no text
            of it.
    """
    if line.raw is None:
        raise BadLine(f"the line is too long, allowed are {max_bytes} bytes", status=413)
    try:
        given = orjson.loads(line.raw)
    except orjson.JSONDecodeError as error:
        # ``from None``: the error object carries the whole line.
        raise BadLine(f"invalid JSON: {error.msg} (column {error.colno})", status=400) from None
    if not isinstance(given, dict):
        raise _wrong("the line", _kind_of(given), "a JSON object")
    own = given.pop("id", None)
    if own is not None:
        if isinstance(own, bool) or not isinstance(own, str | int):
            raise _wrong("id", _kind_of(own), _ID_RULE)
        if isinstance(own, str) and not 1 <= len(own) <= 256:
            raise _wrong("id", f"a string of {len(own)} characters", _ID_RULE)
    for key in given:
        if key not in KEYS:
            bad = _wrong(_printable(key), "an unknown key", f"one of id, {', '.join(sorted(KEYS))}")
            bad.own_id = own
            raise bad
    try:
        # It reads 1,024 levels and writes 254. What is above the service's own limit and below that the service refuses.
        orjson.dumps(given)
    except TypeError:
        bad = _wrong("the line", "arrays and objects in too many others", f"{MAX_DEPTH} levels of them")
        bad.own_id = own
        raise bad from None
    return Request(id=own, body=given)


def _is_object(raw: bytes) -> bool:
    try:
        return isinstance(orjson.loads(raw), dict)
    except orjson.JSONDecodeError:
        return False


def _wrong(field: str, value: str, allowed: str) -> BadLine:
    return BadLine(f"{field}: got {value}, allowed is {allowed}", status=400, field=field, value=value, allowed=allowed)


def _kind_of(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"


def _printable(key: str) -> str:
    shown = "".join(character if character.isprintable() else "\ufffd" for character in key[:_SHOWN_KEY])
    return shown if len(key) <= _SHOWN_KEY else shown + "…"
