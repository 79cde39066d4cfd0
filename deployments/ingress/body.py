"""Reading a JSON object from a request body, within bounds of size, depth and characters.

Starlette's ``RequestBodyLimitMiddleware`` is not used: it answers in plain text, and replaces the reply of handlers that
never look at the body.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from pipeline.errors import TooLarge, UnsupportedMediaType, kind_of
from pipeline.json_text import InvalidJson, parse


async def read_json(request: Request, *, max_bytes: int) -> dict[str, Any]:
    """The body as an object; an empty one and ``null`` are ``{}`` (contract §11.2 point 6). Content-Type is not looked at.

    Raises:
        TooLarge: more than ``max_bytes``; what is over is not read.
        UnsupportedMediaType: the body is compressed; a bomb is cheaper to refuse than to bound.
        InvalidJson: not JSON, not an object, nested deeper than ``json_text.MAX_DEPTH``, or with characters no field may hold.
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


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"The request body is too large, allowed are {max_bytes} bytes")
