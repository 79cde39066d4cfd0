"""Events of one user's prompts and chats (contract 1backend §1.6, §3), kept for as long as somebody listens, and a while longer.

The scripts of the transitions write them, into one capped stream per user. For a user without a subscription nothing is written:
events are for those who watch, the truth is in the records.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from redis.asyncio import Redis

from pipeline.errors import InvalidField
from pipeline.store.keys import Keys

#: How long after its last sign of life a subscription may come back and find what it missed, seconds.
WINDOW_S = 600
#: An id on the wire, as a regular expression of Python and of JavaScript. The store's numbers have 64 bits; those of 19 digits
#: always fit, and a clock in milliseconds never needs more.
ID_PATTERN = "[0-9]{1,19}-[0-9]{1,19}"


@dataclass(frozen=True, slots=True, order=True)
class EventId:
    """A position in a user's events; on the wire ``ms-sequence``, as the store gives it out."""

    ms: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.ms}-{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        Raises:
            InvalidField: it is not an id of ours.
        """
        if not re.fullmatch(ID_PATTERN, text):
            raise InvalidField("Last-Event-ID", text, "the id of an event of this stream, such as 1767225600000-0")
        ms, sequence = text.split("-")
        return cls(int(ms), int(sequence))


#: In front of every event.
BEGINNING = EventId(0, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    id: EventId
    #: ``promptAdded``, ``promptRemoved``, ``promptProcessingStarted`` or ``promptProcessingFinished``; ``chatThreadAdded``,
    #: ``chatThreadUpdate`` or ``chatMessageAdded``.
    name: str
    #: ``promptId``; with ``promptProcessingFinished`` also ``error``, if the attempt had no result. Of a chat, ``threadId``.
    data: Mapping[str, str]
    #: The event that was written before it, kept or not; ``BEGINNING`` if there was none since somebody listens. None where that
    #: is not known: an earlier version of the service did not write it.
    after: EventId | None = None


class EventLog:
    """The events of every user. Every method may raise redis errors."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    async def listen(self, user_id: str) -> bool:
        """Have the user's events written for another ``WINDOW_S``. Returns whether they were being written already."""
        pipe = self._client.pipeline(transaction=True)
        pipe.set(self._keys.listening(user_id), 1, ex=WINDOW_S, get=True)
        pipe.expire(self._keys.events(user_id), WINDOW_S)
        before, _ = await pipe.execute()
        return before is not None

    async def bounds(self, user_id: str) -> tuple[Event, Event] | None:
        """The oldest and the latest event that is kept, None if there is none."""
        pipe = self._client.pipeline(transaction=True)
        pipe.xrange(self._keys.events(user_id), count=1)
        pipe.xrevrange(self._keys.events(user_id), count=1)
        oldest, latest = await pipe.execute()
        return (_event(*oldest[0]), _event(*latest[0])) if oldest else None

    async def behind(self, user_id: str, position: EventId, count: int = 100) -> list[Event]:
        """Up to ``count`` events behind a position, oldest first."""
        rows: Any = await self._client.xrange(self._keys.events(user_id), min=f"({position}", count=count)
        return [_event(entry_id, fields) for entry_id, fields in rows]


def _event(entry_id: bytes, fields: Mapping[bytes, bytes]) -> Event:
    texts = {name.decode(): value.decode("utf-8", "replace") for name, value in fields.items()}
    name, after = texts.pop("name"), texts.pop("after", None)
    return Event(
        id=EventId.parse(entry_id.decode()), name=name, data=texts, after=EventId.parse(after) if after else None
    )
