"""A user's events as a subscription: where it begins, how it goes on, and the reply that carries it (contract §1.6, §3)."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Container, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from deployments.ingress import wire
from deployments.ingress.auth import principal
from deployments.ingress.hub import Hub
from deployments.ingress.sse import event_stream
from pipeline.store.events import BEGINNING, WINDOW_S, Event, EventId, EventLog

#: The event that says that others are gone: whoever kept a picture of what they tell of reads it anew.
MISSED = "eventsMissed"
#: A subscription shows that it lives so often, seconds.
_RENEW_S = WINDOW_S / 4


class UserEvents:
    """Replies to callers with their own events; any service may."""

    def __init__(self, log: EventLog, hub: Hub, *, heartbeat_s: float) -> None:
        self._log = log
        self._hub = hub
        self._heartbeat_s = heartbeat_s

    async def reply(self, request: Request, names: Container[str] | None = None) -> Response:
        """The caller's events from now on, or from behind ``Last-Event-ID``: those of these names, or all.

        Raises:
            InvalidField: ``Last-Event-ID`` is not an id of ours.
        """
        last = request.headers.get("last-event-id")
        user_id = principal(request).user_id
        # Before the reply begins: who has seen its headers misses nothing that happens after.
        start = await begin(self._log, user_id, EventId.parse(last) if last else None)
        return event_stream(self._frames(user_id, start, names), heartbeat_s=self._heartbeat_s)

    async def _frames(
        self, user_id: str, start: Start, names: Container[str] | None
    ) -> AsyncIterator[tuple[str, Mapping[str, Any]]]:
        async with aclosing(follow(self._log, self._hub, user_id, start)) as events:
            async for event in events:
                if names is None or event.name in names or event.name == MISSED:
                    yield str(event.id), wire.user_event(event)


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """Where a subscription begins."""

    position: EventId
    #: Whether events are gone that it asked for.
    has_missed: bool


async def begin(log: EventLog, user_id: str, last: EventId | None) -> Start:
    """Have the user's events written, and find where to go on: behind ``last``, or from now on where there is none or what
    follows it is no longer kept whole."""
    was_written = await log.listen(user_id)
    bounds = await log.bounds(user_id)
    now = bounds[1].id if bounds else BEGINNING
    if last is None:
        return Start(position=now, has_missed=False)
    if was_written and bounds is not None and _is_whole_behind(last, *bounds):
        return Start(position=last, has_missed=False)
    return Start(position=now, has_missed=True)


def _is_whole_behind(last: EventId, oldest: Event, latest: Event) -> bool:
    """Whether everything behind ``last`` is kept: it is kept itself, or was the last one to be cut off. Not so in front of the
    first event of all: there somebody may have had others, before a time when nobody listened."""
    return oldest.id <= last <= latest.id or last == oldest.after != BEGINNING


async def follow(log: EventLog, hub: Hub, user_id: str, start: Start) -> AsyncGenerator[Event, None]:
    """Yield the user's events for ever; ``MISSED`` stands where some are lacking."""
    position = start.position
    if start.has_missed:
        yield Event(id=position, name=MISSED, data={})
    async with hub.watch_events(user_id) as watch:
        alive_at = time.monotonic()
        while True:
            events = await log.behind(user_id, position)
            for event in events:
                if event.after is not None and event.after != position:
                    # Cut off before they were read here, or lost by the store. Who resumes behind the last lacks no more.
                    yield Event(id=event.after, name=MISSED, data={})
                position = event.id
                yield event
            if time.monotonic() - alive_at > _RENEW_S:
                if not await log.listen(user_id):
                    # This process stood still for so long that nothing was written any more.
                    yield Event(id=position, name=MISSED, data={})
                alive_at = time.monotonic()
            if not events:
                await watch.news()
