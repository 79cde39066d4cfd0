"""How much of a list of messages one may read at once: texts are up to a request body long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from pipeline.store.keys import Keys


async def first_within(client: Redis, keys: Keys, user_id: str, ids: Sequence[str], *, most_bytes: int) -> int:
    """How many of these messages, from the first one, are together no longer than ``most_bytes``; one at least, if there is
    one."""
    pipe = client.pipeline(transaction=False)
    for message_id in ids:
        for field in ("text", "meta"):
            pipe.hstrlen(keys.message(f"{user_id}/{message_id}"), field)
    lengths: list[Any] = await pipe.execute() if ids else []
    total = 0
    for count, pair in enumerate(zip(lengths[::2], lengths[1::2], strict=True)):
        total += sum(pair)
        if total > most_bytes and count:
            return count
    return len(ids)
