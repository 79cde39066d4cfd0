"""How many attempts a replica holds. The replica itself is the judge, whatever Serve's or a router's counting says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Permits:
    """A bounded number of permits, and the exclusive use of all of them for a prompt that must run alone."""

    def __init__(self, total: int, *, on_offer: Callable[[], None] = lambda: None) -> None:
        """
        Args:
            on_offer: called with each change of ``offered`` that comes of somebody who runs, or waits to run, alone.
        """
        self.total = total
        self._on_offer = on_offer
        self._used = 0
        self._alone = False
        #: Whether the one to be alone waits still; it holds no permit yet.
        self._waits = False
        self._closed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        #: Set with every permit that gets free; whoever waits for it clears it before.
        self.released = asyncio.Event()

    @property
    def used(self) -> int:
        return self._used

    @property
    def offered(self) -> int:
        """How many may be counted on. Behind a closed door just those that are leased: the store would grant one more, have it
        handed back, and grant the next, for as long as the door is closed."""
        if self._closed.is_set():
            return self._used
        return self._used + self._waits if self._alone else self.total

    def close(self) -> None:
        """Give out no more. Who holds one keeps it, who waits to run alone waits in vain."""
        self._closed.set()

    def open(self) -> None:
        self._closed.clear()

    def try_acquire(self) -> bool:
        """Take one permit if there is one and nobody runs, or waits to run, alone."""
        if self._closed.is_set() or self._alone or self._used >= self.total:
            return False
        self._used += 1
        self._idle.clear()
        return True

    async def acquire_alone(self) -> bool:
        """Close the door behind the attempts that run now, wait for their end, and take everything. False if somebody else
        has closed the door already, or no more is given out."""
        if self._alone or self._closed.is_set():
            return False
        self._alone = self._waits = True
        self._on_offer()
        entered = False
        try:
            await self._idle_or_closed()
            entered = not self._closed.is_set()
        finally:
            self._alone, self._waits = entered, False
            if not entered:
                self._on_offer()
        if entered:
            self._used = 1
            self._idle.clear()
        return entered

    async def _idle_or_closed(self) -> None:
        waits = [asyncio.ensure_future(event.wait()) for event in (self._idle, self._closed)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def release(self) -> None:
        self._release()
        if self._alone:
            self._on_offer()

    def release_alone(self) -> None:
        self._alone = False
        self._release()
        self._on_offer()

    def _release(self) -> None:
        self._used -= 1
        self.released.set()
        if self._used == 0:
            self._idle.set()
