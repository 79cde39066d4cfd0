"""How much of a list one may read at once: texts are up to a request body long."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from redis.asyncio import Redis

from pipeline.store.keys import Keys


def count_within(lengths: Iterable[int], *, most_bytes: int) -> int:
    """How many of these, from the first one, are together no longer than ``most_bytes``; one at least, if there is one."""
    total = count = 0
    for length in lengths:
        total += length
        if total > most_bytes and count:
            break
        count += 1
    return count


async def first_within(client: Redis, keys: Keys, user_id: str, ids: Sequence[str], *, most_bytes: int) -> int:
    """How many of these messages fit, see ``count_within``."""
    pipe = client.pipeline(transaction=False)
    for message_id in ids:
        for field in ("text", "meta"):
            pipe.hstrlen(keys.message(f"{user_id}/{message_id}"), field)
    lengths: list[Any] = await pipe.execute() if ids else []
    return count_within((sum(pair) for pair in zip(lengths[::2], lengths[1::2], strict=True)), most_bytes=most_bytes)
