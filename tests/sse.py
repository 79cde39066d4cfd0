"""Reading a stream of Server-Sent Events as a client does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    id: str
    data: dict[str, Any]


class Stream:
    """An open subscription."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.comments = 0
        self._lines = response.aiter_lines()

    async def events(self) -> AsyncIterator[Event]:
        """Every event, until the server closes."""
        event_id, data = "", ""
        async for line in self._lines:
            if line.startswith(":"):
                self.comments += 1
            elif line.startswith("id:"):
                event_id = line[3:].strip()
            elif line.startswith("data:"):
                data += line[5:].strip()
            elif not line and data:
                yield Event(id=event_id, data=json.loads(data))
                data = ""

    async def until_end(self, ends: int = 1, timeout_s: float = 90) -> list[Event]:
        """The events up to and with the last of ``ends`` answers."""
        seen: list[Event] = []
        async with asyncio.timeout(timeout_s):
            async for event in self.events():
                seen.append(event)
                if event.data["type"] in {"done", "error", "canceled"}:
                    ends -= 1
                    if ends == 0:
                        return seen
        raise AssertionError(f"the stream closed after {len(seen)} events")


@asynccontextmanager
async def subscription(
    client: httpx.AsyncClient, thread_id: str, *, last_event_id: str | None = None, query: str = ""
) -> AsyncIterator[Stream]:
    """Subscribe to a thread; entered once the headers are there."""
    headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
    path = f"/prompt-svc/prompts/{quote(thread_id, safe='')}/responses/subscribe?{query}"
    async with client.stream("GET", path, headers=headers, timeout=httpx.Timeout(10, read=None)) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Stream(response)


def text_of(events: list[Event]) -> str:
    """What a client that appends every text ends up with."""
    text = ""
    for event in events:
        if event.data["type"] == "restart":
            text = ""
        elif event.data["type"] in {"progress", "done"}:
            text += event.data.get("text", "")
    return text
