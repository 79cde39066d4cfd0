"""Doorbells: pub/sub channels that say "look again". A ring may be lost, so nobody relies on one; they only make it fast."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import RedisError

from pipeline.store.logs import LogEntry, decode_rung_entry

logger = logging.getLogger("ray.serve")

#: How long to wait before trying a store again that refused a subscription, seconds.
RECONNECT_S = 0.25


@dataclass(frozen=True, kw_only=True, slots=True)
class Ring:
    """What a thread's bell says: ``<place>[ <number>][ end]``, and behind a newline the log entry of that number as JSON."""

    #: Place in the thread of the prompt that has news.
    place: int
    #: The entry its log grew by, None for other news (it was accepted or erased).
    entry: LogEntry | None
    #: Whether the prompt has ended.
    is_end: bool

    @classmethod
    def parse(cls, payload: bytes) -> Ring:
        """Raises ValueError, KeyError or TypeError for what is no ring of ours."""
        head, _, document = payload.partition(b"\n")
        place, *rest = head.split(b" ")
        return cls(
            place=int(place),
            entry=decode_rung_entry(int(rest[0]), document) if document else None,
            is_end=rest[-1:] == [b"end"],
        )


async def listen(client: Redis, channels: Iterable[str]) -> AsyncIterator[tuple[str, bytes] | None]:
    """Yield (channel, payload) of every ring, for ever. None after each (re)connection: rings may have been missed."""
    names = list(channels)
    while True:
        pubsub = client.pubsub(ignore_subscribe_messages=False)
        try:
            await pubsub.subscribe(*names)
            confirmed = 0
            while True:
                # No time-out inside: an idle channel is not an error. TCP keepalive and the store's own close end it.
                message = await pubsub.get_message(timeout=None)
                if message is None:
                    continue
                if message["type"] == "subscribe":
                    confirmed += 1
                    # The client also subscribes again by itself, when it reconnects.
                    if confirmed % len(names) == 0:
                        yield None
                elif message["type"] == "message":
                    yield message["channel"].decode(), message["data"]
        except (RedisError, OSError) as error:
            logger.warning("store: subscription lost (%s), connecting again", type(error).__name__)
            await asyncio.sleep(RECONNECT_S)
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]
