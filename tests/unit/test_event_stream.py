"""Server-sent events as they go out: headers at once, comments while nothing is said, and the end of a connection."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from deployments.ingress import sse
from deployments.ingress.sse import event_stream


async def sent(response: Any, *, until_seen: bytes | None = None) -> list[dict[str, Any]]:
    """The ASGI messages of a response; the client leaves when it has seen some bytes."""
    messages: list[dict[str, Any]] = []
    seen = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await seen.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        messages.append(dict(message))
        if until_seen is not None and until_seen in message.get("body", b""):
            seen.set()

    await asyncio.wait_for(response({"type": "http", "method": "GET", "path": "/"}, receive, send), 10)
    return messages


async def endless() -> AsyncIterator[tuple[str, dict[str, Any]]]:
    for number in range(1_000_000):
        yield f"1-{number}", {"text": "x" * 100}


async def silent() -> AsyncIterator[tuple[str, dict[str, Any]]]:
    await asyncio.Event().wait()
    yield "", {}


async def test_headers_and_a_comment_go_out_before_there_is_anything_to_say():
    messages = await sent(event_stream(silent(), heartbeat_s=60), until_seen=b": subscribed\n\n")
    assert [message["type"] for message in messages][:2] == ["http.response.start", "http.response.body"]


async def test_an_idle_stream_is_kept_open_by_comments():
    messages = await sent(event_stream(silent(), heartbeat_s=0.01), until_seen=b"heartbeat")
    assert b": heartbeat\n\n" in [message.get("body") for message in messages]


async def test_a_connection_is_closed_after_so_many_bytes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sse, "MOST_BYTES", 1000)
    messages = await sent(event_stream(endless(), heartbeat_s=60))
    assert 1000 < sum(len(message.get("body", b"")) for message in messages) < 1300
    assert messages[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


async def test_an_event_is_one_line_for_every_reader_of_lines():
    data = {"text": 'a\n\r\u2028\u2029\x85\x0b\x0c\x1c\\u2028"ä🙂', "\u2028": 1}

    async def events() -> AsyncIterator[tuple[str, dict[str, Any]]]:
        yield "1-1", data

    stream = b"".join(m.get("body", b"") for m in await sent(event_stream(events(), heartbeat_s=60))).decode()
    assert len(stream.splitlines()) == stream.count("\n")
    (line,) = (line for line in stream.splitlines() if line.startswith("data: "))
    assert json.loads(line.removeprefix("data: ")) == data
    assert "ä🙂" in line


async def test_a_client_that_leaves_ends_the_reading():
    closed = asyncio.Event()

    async def events() -> AsyncIterator[tuple[str, dict[str, Any]]]:
        try:
            yield "1-1", {}
            await asyncio.Event().wait()
        finally:
            closed.set()

    with contextlib.suppress(asyncio.CancelledError):
        await sent(event_stream(events(), heartbeat_s=60), until_seen=b"id: 1-1")
    await asyncio.wait_for(closed.wait(), 10)
