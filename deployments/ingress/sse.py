"""Server-Sent Events: frames, heartbeats, and the limits that keep a slow reader from costing memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from sse_starlette import EventSourceResponse, ServerSentEvent

#: A reader that takes nothing for this long is cut, seconds; it resumes by Last-Event-ID.
STALLED_S = 30.0
#: A connection is closed after this many bytes. Serve's proxy queues without bound for a reader slower than the answers
#: (ray-serve.md §4.2); a reconnecting EventSource does not notice, and what one connection can pile up stays small.
MOST_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Comment:
    """A line that readers pass over; no event of it has an id, so it changes nothing about resuming."""

    text: str


Item = tuple[str, Mapping[str, Any]] | Comment

#: Characters at which some readers end a line, httpx's among them, and JSON's names for them. JSON escapes the others itself.
_LINE_ENDS = {character.encode(): b"\\u%04x" % ord(character) for character in "\u0085\u2028\u2029"}


def event_stream(events: AsyncIterator[Item], *, heartbeat_s: float) -> EventSourceResponse:
    """A response of (id, data) events and comments. Headers go out at once; every ``heartbeat_s`` seconds a comment keeps it
    open."""
    return EventSourceResponse(
        _frames(events),
        sep="\n",
        ping=heartbeat_s,
        ping_message_factory=lambda: ServerSentEvent(comment="heartbeat", sep="\n"),
        send_timeout=STALLED_S,
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _frames(events: AsyncIterator[Item]) -> AsyncIterator[bytes]:
    # A first comment: some proxies hold headers back until there is a body.
    yield b": subscribed\n\n"
    sent = 0
    async for item in events:
        if isinstance(item, Comment):
            # One line, whatever it says.
            yield b": " + " ".join(item.text.split()).encode() + b"\n\n"
            continue
        event_id, data = item
        frame = b"id: " + event_id.encode() + b"\ndata: " + one_line(orjson.dumps(data)) + b"\n\n"
        sent += len(frame)
        yield frame
        if sent > MOST_BYTES:
            return


def one_line(content: bytes) -> bytes:
    """JSON that is one line for every reader. In valid UTF-8 the bytes of a character are no part of another one's."""
    if not content.isascii():
        for end, escaped in _LINE_ENDS.items():
            content = content.replace(end, escaped)
    return content
