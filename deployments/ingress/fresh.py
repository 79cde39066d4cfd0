"""Values that a replica reads from the store again and again, but not for every request."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

#: How old a policy or permit may be where it is looked at, seconds: what is saved is in force everywhere after this.
MAX_AGE_S = 1.0


class Fresh(Generic[T]):
    """The outcome of ``read``, at most ``max_age_s`` old. Callers that come while it is being read share the read and its
    failure: a store that is away is not asked once per caller."""

    def __init__(
        self,
        read: Callable[[], Awaitable[T]],
        *,
        max_age_s: float = MAX_AGE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._max_age_s = max_age_s
        self._clock = clock
        self._known: tuple[T, float] | None = None
        self._reading: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """The value. Raises whatever ``read`` raises; nothing older is given out instead."""
        if self._known is not None and self._clock() < self._known[1]:
            return self._known[0]
        if self._reading is None:
            # A context of its own: what is begun inside a request of Ray's would be cancelled with it (ray#52476).
            self._reading = asyncio.get_running_loop().create_task(
                self._read_on(self._clock()), context=contextvars.Context()
            )
            self._reading.add_done_callback(self._ended)
        return await asyncio.shield(self._reading)

    def forget(self) -> None:
        """The next caller reads anew: something was changed here. A read under way may have missed it."""
        self._known = self._reading = None

    async def _read_on(self, began: float) -> T:
        value = await self._read()
        if self._reading is asyncio.current_task():
            self._known = (value, began + self._max_age_s)
        return value

    def _ended(self, task: asyncio.Task[T]) -> None:
        if self._reading is task:
            self._reading = None
        if not task.cancelled():
            task.exception()  # its callers may have gone; an exception nobody fetches is not news


class FreshTable(Generic[K, T]):
    """The outcomes of ``read`` by what was asked, each as in ``Fresh``. The one that was not asked for the longest time makes
    room once there are ``most``."""

    def __init__(
        self,
        read: Callable[[K], Awaitable[T]],
        *,
        max_age_s: float,
        most: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._max_age_s = max_age_s
        self._most = most
        self._clock = clock
        self._known: OrderedDict[K, Fresh[T]] = OrderedDict()

    async def get(self, asked: K) -> T:
        """The value. Raises as ``Fresh.get``."""
        known = self._known.get(asked)
        if known is None:
            known = self._known[asked] = Fresh(lambda: self._read(asked), max_age_s=self._max_age_s, clock=self._clock)
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(asked)
        return await known.get()

    def forget(self, asked: K) -> None:
        """As ``Fresh.forget``."""
        self._known.pop(asked, None)
