"""firehose-svc: what happens to the caller's prompts, as a stream of events (contract §1.6)."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from deployments.ingress.auth import Access, Gate, GuardedRoute, principal
from deployments.ingress.hub import Hub
from deployments.ingress.sse import event_stream
from deployments.settings import Settings
from pipeline.store.events import BEGINNING, WINDOW_S, Event, EventId, EventLog

#: The event that says that others are gone: whoever kept a picture of the queue reads it anew.
MISSED = "eventsMissed"
#: A subscription shows that it lives so often, seconds.
_RENEW_S = WINDOW_S / 4


class FirehoseSvc:
    """The endpoint of firehose-svc."""

    def __init__(self, settings: Settings, log: EventLog, hub: Hub) -> None:
        self._settings = settings
        self._log = log
        self._hub = hub

    def routes(self, gate: Gate) -> list[GuardedRoute]:
        path = "/firehose-svc/events/subscribe"
        return [GuardedRoute("GET", path, self.subscribe, access=Access.AUTHENTICATED, gate=gate)]

    async def subscribe(self, request: Request) -> Response:
        """The caller's own events from now on, or from behind ``Last-Event-ID``."""
        last = request.headers.get("last-event-id")
        position = EventId.parse(last) if last else None
        return event_stream(
            self._frames(principal(request).user_id, position), heartbeat_s=self._settings.sse_heartbeat_s
        )

    async def _frames(self, user_id: str, position: EventId | None) -> AsyncIterator[tuple[str, Mapping[str, Any]]]:
        async with aclosing(follow(self._log, self._hub, user_id, position)) as events:
            async for event in events:
                yield str(event.id), {"name": event.name, "data": event.data}


async def follow(log: EventLog, hub: Hub, user_id: str, position: EventId | None) -> AsyncGenerator[Event, None]:
    """Yield the user's events for ever, from behind ``position`` or from now on. Where some behind ``position`` are no longer
    kept, ``MISSED`` comes first, and then those from now on."""
    async with hub.watch_events(user_id) as watch:
        was_written = await log.listen(user_id)
        alive_at = time.monotonic()
        bounds = await log.bounds(user_id)
        now = bounds[1] if bounds else BEGINNING
        if position is None:
            position = now
        elif not was_written or bounds is None or not bounds[0] <= position <= bounds[1]:
            position = now
            yield Event(id=now, name=MISSED, data={})
        while True:
            events = await log.behind(user_id, position)
            for event in events:
                position = event.id
                yield event
            if time.monotonic() - alive_at > _RENEW_S:
                if not await log.listen(user_id):
                    # This process stood still for so long that nothing was written any more.
                    yield Event(id=position, name=MISSED, data={})
                alive_at = time.monotonic()
            if not events:
                await watch.news()
