"""Blocking file work off the event loop, in threads of its own: a slow disk must not hold up tokenizers and name look-ups."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """A few threads. Work never outlives the call that started it."""

    def __init__(self, count: int, name: str) -> None:
        self._executor = ThreadPoolExecutor(count, thread_name_prefix=name)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """``work(...)`` in a thread. A cancelled caller still waits for its end: nobody closes a file under a write."""
        future = self._executor.submit(work, *args, **kwargs)
        done = asyncio.wrap_future(future)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            if not future.cancel():
                await asyncio.wait([done])
                if not done.cancelled():
                    done.exception()  # it was not asked for any more
            raise

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)
