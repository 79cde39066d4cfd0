"""Reading JSON within bounds of depth and characters: a request body, and JSON text inside of one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import islice
from typing import Any, TypeAlias

import orjson

from pipeline.errors import ClientError

#: Nesting of arrays and objects that a body may have, and JSON text in it (SECURITY §2.2).
MAX_DEPTH = 64
#: Characters of a key that an error message shows.
_SHOWN_KEY = 64
#: Values looked at to name the field that holds a wrong character.
_SEARCHED = 5_000

#: JSON can spell NUL only as this escape, behind an even number of backslashes.
_ESCAPED_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_SURROGATE = re.compile("[\ud800-\udfff]")

#: A field's place as a linked list from the inside out: writing it out is left to the one that is wrong.
_Path: TypeAlias = "tuple[_Path, str | int] | None"

Json: TypeAlias = dict[str, Any] | list[Any] | str | int | float | bool | None


class InvalidJson(ClientError):
    """Invalid JSON"""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Invalid JSON: {reason}")


def parse(text: bytes | str) -> Any:
    """Any JSON value whose strings a store and a tokenizer can hold. Raises InvalidJson."""
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    try:
        value = orjson.loads(raw)  # refuses more than 1,024 levels by itself, without recursion
    except orjson.JSONDecodeError as error:
        # ``from None``: the error object carries the whole document, which must not reach a log.
        raise InvalidJson(_lone_surrogate(raw) or str(error)) from None
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and depth_exceeds(value, MAX_DEPTH):
        raise InvalidJson(f"nested deeper than {MAX_DEPTH} levels")
    if _ESCAPED_NUL.search(raw):
        path = _path_of(value, lambda string: not is_storable(string))
        raise InvalidJson(f"{path or 'a string'}: NUL characters are not allowed")
    return value


def is_storable(text: str) -> bool:
    """Whether a store and a tokenizer can hold every character: neither NUL nor half a surrogate pair is in it."""
    return "\0" not in text and _SURROGATE.search(text) is None


def depth_exceeds(value: Json, limit: int) -> bool:
    """Whether ``value`` is nested more than ``limit`` levels. Iterative, one level at a time."""
    level: list[Any] = [value]
    for _ in range(limit + 1):
        containers = [item for item in level if isinstance(item, dict | list)]
        if not containers:
            return False
        level = [
            child
            for container in containers
            for child in (container.values() if isinstance(container, dict) else container)
        ]
    return True


def _lone_surrogate(raw: bytes) -> str | None:
    """Which field holds half a surrogate pair, if that is what is wrong. orjson only knows the byte."""
    if b"\\u" not in raw.lower() or raw.count(b"[") + raw.count(b"{") > 4096:
        return None
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if depth_exceeds(value, MAX_DEPTH):
        return None
    path = _path_of(value, lambda string: _SURROGATE.search(string) is not None)
    return path and f"{path}: lone surrogates are not allowed"


def _path_of(value: Json, is_wrong: Callable[[str], bool]) -> str | None:
    """The dotted path of a string or key that is wrong. None if none shows up early: a hostile body is not searched to
    its end for the sake of a better message."""
    pending: list[tuple[_Path, Any]] = [(None, value)]
    for _ in range(_SEARCHED):
        if not pending:
            break
        path, item = pending.pop()
        if isinstance(item, str) and is_wrong(item):
            return _dotted(path)
        if isinstance(item, dict):
            for key, child in islice(item.items(), _SEARCHED):
                if is_wrong(key):
                    return _dotted((path, key))
                pending.append(((path, key), child))
        elif isinstance(item, list):
            pending.extend(((path, index), child) for index, child in enumerate(item[:_SEARCHED]))
    return None


def _dotted(path: _Path) -> str:
    parts: list[str] = []
    while path is not None:
        path, part = path
        parts.append(printable(str(part)))
    return ".".join(reversed(parts)) or "body"


def printable(key: str) -> str:
    """A client's key as an error message may show it."""
    shown = "".join(character if character.isprintable() else "\ufffd" for character in key[:_SHOWN_KEY])
    return shown if len(key) <= _SHOWN_KEY else shown + "…"
