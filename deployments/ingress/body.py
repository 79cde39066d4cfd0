"""Reading a JSON object from a request body, within bounds of size, depth and characters.

Starlette's ``RequestBodyLimitMiddleware`` is not used: it answers in plain text, and replaces the reply of handlers that
never look at the body.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import islice
from typing import Any, TypeAlias

import orjson
from starlette.requests import Request

from pipeline.errors import ClientError, TooLarge, UnsupportedMediaType, kind_of

#: Nesting of arrays and objects that a body may have (SECURITY §2.2).
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


async def read_json(request: Request, *, max_bytes: int) -> dict[str, Any]:
    """The body as an object; an empty one and ``null`` are ``{}`` (contract §11.2 point 6). Content-Type is not looked at.

    Raises:
        TooLarge: more than ``max_bytes``; what is over is not read.
        UnsupportedMediaType: the body is compressed; a bomb is cheaper to refuse than to bound.
        InvalidJson: not JSON, not an object, nested deeper than ``MAX_DEPTH``, or with characters no field may hold.
    """
    return parse_object(await read_body(request, max_bytes=max_bytes))


async def read_body(request: Request, *, max_bytes: int) -> bytes:
    """The raw body, at most ``max_bytes``. Raises as ``read_json`` does."""
    refuse_compressed(request)
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > max_bytes:
        raise _too_large(max_bytes)
    # The header is a claim (and absent with chunked encoding): what arrives is counted.
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(max_bytes)
        chunks.append(chunk)
    return b"".join(chunks)


def refuse_compressed(request: Request) -> None:
    """Raises UnsupportedMediaType."""
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        raise UnsupportedMediaType(f"Content-Encoding: got {encoding[:40]!r}, allowed is identity")


def parse_object(body: bytes) -> dict[str, Any]:
    """An object from JSON text. Raises InvalidJson."""
    if not body:
        return {}
    value = parse(body)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidJson(f"the body must be an object, got {kind_of(value)}")
    return value


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
        path = _path_of(value, lambda string: "\0" in string)
        raise InvalidJson(f"{path or 'a string'}: NUL characters are not allowed")
    return value


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


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"The request body is too large, allowed are {max_bytes} bytes")


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
