"""What happens to a user's objects, as short-lived events: nothing is kept for those who do not listen."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from deployments.ingress.hub import Hub, Watch
from pipeline.errors import StoreUnavailable
from pipeline.store.keys import Keys

#: Events that wait for one reader; one who is slower is cut.
MOST_WAITING = 1000
#: How long a reader waits for the store to listen, seconds.
CONFIRM_S = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class UserEvent:
    #: As the store publishes it, such as ``chatMessageAdded``.
    name: str
    #: Id of what has changed.
    id: str


class _EventWatch(Watch):
    """Keeps the events it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.events: deque[UserEvent] = deque()
        self.has_missed = False

    def ring(self, payload: bytes) -> None:
        name, _, changed = payload.decode().partition(" ")
        if len(self.events) < MOST_WAITING:
            self.events.append(UserEvent(name=name, id=changed))
        else:
            self.has_missed = True
        super().ring(payload)

    def ring_blindly(self) -> None:
        self.has_missed = True
        super().ring_blindly()


class UserEvents:
    """Listens for any number of readers, on the hub's one connection."""

    def __init__(self, hub: Hub, keys: Keys) -> None:
        self._hub = hub
        self._keys = keys

    async def listen(self, user_id: str) -> AsyncGenerator[UserEvent, None]:
        """The user's events from now on: when this returns, it listens. They end when some were missed (the reader is slow, the
        store was away): whoever comes back then looks again at what it shows.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        events = self._heard(user_id)
        try:
            async with asyncio.timeout(CONFIRM_S):
                await anext(events)
        except TimeoutError:
            raise StoreUnavailable from None
        return _without_none(events)

    async def _heard(self, user_id: str) -> AsyncGenerator[UserEvent | None, None]:
        """None first, once it listens."""
        watch = _EventWatch()
        async with self._hub.attend(self._keys.chat_events(user_id), watch):
            # The first subscriber of a channel is told that it may have missed something.
            watch.has_missed = False
            yield None
            while True:
                while watch.events:
                    yield watch.events.popleft()
                if watch.has_missed:
                    return
                await watch.news()


async def _without_none(events: AsyncGenerator[UserEvent | None, None]) -> AsyncGenerator[UserEvent, None]:
    async with aclosing(events):
        async for event in events:
            if event is not None:
                yield event
