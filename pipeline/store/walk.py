"""Walking the store's indexes in the order of creation, several merged into one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from pipeline.query import Range
from pipeline.store.replies import text

#: Entries read from all indexes together in one step.
READ_TOGETHER = 4000


class IndexWalk:
    """Yields the refs of several indexes, each once, from one end of a range of times to the other.

    Prompts move between indexes meanwhile (their status changes). Each step reads one stretch of time from all indexes at the
    same moment, so a prompt that is in one of them all the time is met exactly once: in the step its creation falls into.
    """

    def __init__(self, client: Redis, indexes: Sequence[str], times: Range, *, descending: bool) -> None:
        self._client = client
        self._indexes = indexes
        self._times = times
        self._descending = descending
        #: Creation of the last prompt that was yielded, None before the first.
        self.position_us: int | None = None
        #: There is nothing behind ``position_us``.
        self.has_ended = not indexes or times.is_empty

    async def step(self, most: int) -> list[str]:
        """The next refs, at most that many. Fewer, even none, do not mean that the walk has ended."""
        if self.has_ended:
            return []
        share = max(1, min(most, READ_TOGETHER // len(self._indexes)))
        stretches = [[(int(score), text(ref)) for ref, score in rows] for rows in await self._read(share) if rows]
        full = [rows[-1][0] for rows in stretches if len(rows) == share]
        rows = sorted({row for rows in stretches for row in rows}, reverse=self._descending)
        if full:
            # What an index holds behind its last entry here is not known yet.
            edge = max(full) if self._descending else min(full)
            rows = [row for row in rows if (row[0] >= edge if self._descending else row[0] <= edge)]
        taken = rows[:most]
        self.has_ended = not full and len(taken) == len(rows)
        if taken:
            self.position_us = taken[-1][0]
            self._times = self._times.after(self.position_us, descending=self._descending)
        return [ref for _, ref in taken]

    async def _read(self, most: int) -> list[Any]:
        first, last = self._times.first_us, self._times.last_us
        pipe = self._client.pipeline(transaction=len(self._indexes) > 1)
        for index in self._indexes:
            if self._descending:
                pipe.zrevrangebyscore(index, last, first, start=0, num=most, withscores=True)
            else:
                pipe.zrangebyscore(index, first, last, start=0, num=most, withscores=True)
        rows: list[Any] = await pipe.execute()
        return rows


async def count_entries(client: Redis, indexes: Sequence[str], times: Range) -> int:
    """Entries of the indexes within a range, at one moment; O(log n) each."""
    pipe = client.pipeline(transaction=True)
    for index in indexes:
        if times == Range():
            pipe.zcard(index)
        else:
            pipe.zcount(index, times.first_us, times.last_us)
    return sum(await pipe.execute()) if indexes else 0
