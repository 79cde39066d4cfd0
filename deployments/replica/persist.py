"""Calls to a store that may be away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from redis.exceptions import RedisError

from pipeline.store.connection import means_unavailable

T = TypeVar("T")

#: Pause before calling a store again that was away, seconds.
RETRY_S = 0.25


async def persist(call: Callable[[], Awaitable[T]]) -> T:
    """Call the store until it answers. A store that is away stops nothing; if it forgot the lease meanwhile, it says so."""
    while True:
        try:
            return await call()
        except RedisError as error:
            if not means_unavailable(error):
                raise
            await asyncio.sleep(RETRY_S)
