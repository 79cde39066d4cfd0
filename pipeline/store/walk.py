"""Walking prompts in the order of creation: several of the store's indexes merged into one, or a list of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from pipeline.query import Range
from pipeline.store.replies import text
from pipeline.store.scripts import Scripts

#: Entries read from all indexes together in one step, about.
READ_TOGETHER = 8000
#: Prompts measured in one step.
_MEASURED_TOGETHER = 1000


class Entry(NamedTuple):
    """A prompt that has not been read yet."""

    ref: str
    created_us: int
    #: Of its texts: what makes reading it expensive.
    bytes: int


class Walk(Protocol):
    """Yields prompts in the order of creation, in steps."""

    @property
    def has_ended(self) -> bool:
        """Nothing is behind what was yielded."""

    async def step(self, most: int) -> list[Entry]:
        """The next ones, at most that many and at least one, unless the walk ends here."""


class Walks(Protocol):
    """Begins walks through the same prompts."""

    def __call__(self, times: Range, *, descending: bool) -> Walk: ...


class IndexWalk:
    """Yields the prompts of several indexes, each once, from one end of a range of times to the other.

    Prompts move between indexes meanwhile (their status changes). Each step reads one stretch of time from all indexes at the
    same moment, so a prompt that is in one of them all the time is met exactly once: in the step its creation falls into.
    """

    def __init__(self, scripts: Scripts, indexes: Sequence[str], times: Range, *, descending: bool) -> None:
        self._scripts = scripts
        self._indexes = indexes
        self._times = times
        self._descending = descending
        self._has_ended = not indexes or times.is_empty

    @property
    def has_ended(self) -> bool:
        return self._has_ended

    async def step(self, most: int) -> list[Entry]:
        if self._has_ended:
            return []
        share = max(1, min(most, READ_TOGETHER // len(self._indexes)))
        direction = "down" if self._descending else "up"
        ended, *rows = await self._scripts.run(
            "merge", self._times.first_us, self._times.last_us, direction, most, share, *self._indexes
        )
        self._has_ended = ended == 1
        entries = [Entry(text(ref), int(at), size) for ref, at, size in zip(*[iter(rows)] * 3, strict=True)]
        if entries:
            self._times = self._times.after(entries[-1].created_us, descending=self._descending)
        return entries


class ListWalk:
    """Yields those of a list of prompts that are within a range of times."""

    def __init__(self, entries: Sequence[Entry], times: Range, *, descending: bool) -> None:
        within = (entry for entry in entries if times.first_us <= entry.created_us <= times.last_us)
        self._entries = sorted(within, key=lambda entry: entry.created_us, reverse=descending)
        self._at = 0

    @property
    def has_ended(self) -> bool:
        return self._at >= len(self._entries)

    async def step(self, most: int) -> list[Entry]:
        entries = self._entries[self._at : self._at + most]
        self._at += len(entries)
        return entries


async def measured(scripts: Scripts, refs: Sequence[str]) -> list[Entry]:
    """Those of these prompts that exist."""
    entries = []
    for start in range(0, len(refs), _MEASURED_TOGETHER):
        some = refs[start : start + _MEASURED_TOGETHER]
        found = await scripts.run("measure", *some)
        for ref, created, size in zip(some, found[::2], found[1::2], strict=True):
            if created is not None:
                entries.append(Entry(ref, int(created), size))
    return entries


async def count_entries(scripts: Scripts, indexes: Sequence[str], times: Range) -> int:
    """Entries of the indexes within a range; O(log n) each."""
    return int(await scripts.run("count", times.first_us, times.last_us, *indexes))
