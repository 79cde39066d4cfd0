"""How many attempts a replica holds. The replica itself is the judge, whatever Serve's or a router's counting says."""

from __future__ import annotations

import asyncio


class Permits:
    """A bounded number of permits, and the exclusive use of all of them for a prompt that must run alone."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._used = 0
        self._alone = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def used(self) -> int:
        return self._used

    def try_acquire(self) -> bool:
        """Take one permit if there is one and nobody runs, or waits to run, alone."""
        if self._alone or self._used >= self.total:
            return False
        self._used += 1
        self._idle.clear()
        return True

    async def acquire_alone(self) -> bool:
        """Close the door behind the attempts that run now, wait for their end, and take everything. False if somebody else
        has closed the door already."""
        if self._alone:
            return False
        self._alone = True
        try:
            await self._idle.wait()
        except asyncio.CancelledError:
            self._alone = False
            raise
        self._used = 1
        self._idle.clear()
        return True

    def release(self) -> None:
        self._used -= 1
        if self._used == 0:
            self._idle.set()

    def release_alone(self) -> None:
        self._alone = False
        self.release()
