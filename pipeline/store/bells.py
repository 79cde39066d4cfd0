"""Doorbells: pub/sub channels that say "look again". A ring may be lost, so nobody relies on one; they only make it fast."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable

from redis.asyncio import Redis
from redis.exceptions import RedisError

logger = logging.getLogger("ray.serve")

#: How long to wait before trying a store again that refused a subscription, seconds.
RECONNECT_S = 0.25


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
