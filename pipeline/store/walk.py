"""Walking the store's indexes in the order of creation, several merged into one."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.query import Range
from pipeline.store.replies import text
from pipeline.store.scripts import Scripts

#: Entries read from all indexes together in one step, about.
READ_TOGETHER = 8000


class IndexWalk:
    """Yields the refs of several indexes, each once, from one end of a range of times to the other.

    Prompts move between indexes meanwhile (their status changes). Each step reads one stretch of time from all indexes at the
    same moment, so a prompt that is in one of them all the time is met exactly once: in the step its creation falls into.
    """

    def __init__(self, scripts: Scripts, indexes: Sequence[str], times: Range, *, descending: bool) -> None:
        self._scripts = scripts
        self._indexes = indexes
        self._times = times
        self._descending = descending
        #: Creation of the last prompt that was yielded, None before the first.
        self.position_us: int | None = None
        #: There is nothing behind ``position_us``.
        self.has_ended = not indexes or times.is_empty

    async def step(self, most: int) -> list[str]:
        """The next refs, at most that many and at least one, unless the walk ends here."""
        if self.has_ended:
            return []
        share = max(1, min(most, READ_TOGETHER // len(self._indexes)))
        direction = "down" if self._descending else "up"
        ended, *rows = await self._scripts.run(
            "merge", self._times.first_us, self._times.last_us, direction, most, share, *self._indexes
        )
        self.has_ended = ended == 1
        if rows:
            self.position_us = int(rows[-1])
            self._times = self._times.after(self.position_us, descending=self._descending)
        return [text(ref) for ref in rows[::2]]


async def count_entries(scripts: Scripts, indexes: Sequence[str], times: Range) -> int:
    """Entries of the indexes within a range; O(log n) each."""
    return int(await scripts.run("count", times.first_us, times.last_us, *indexes))
