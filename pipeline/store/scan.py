"""Looking at prompts one after another for those that meet a query's conditions, within bounds of rows, bytes and time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from pipeline.prompt import Prompt
from pipeline.query import Query, Range
from pipeline.query.conditions import all_match
from pipeline.store.page import MOST_PAGE_BYTES
from pipeline.store.prompts import PromptStore
from pipeline.store.sizes import count_within
from pipeline.store.walk import Entry, Walk, Walks

#: What of a prompt the one who lists may search. Conditions and orders see nothing else, so they cannot ask about what is hidden.
Show: TypeAlias = Callable[[Prompt], Mapping[str, Any]]

#: Records read at a time.
CHUNK = 100
#: Texts read at a time, unless one alone is longer: nothing else runs while they are taken apart, up to 0.1 s a MiB.
MOST_CHUNK_BYTES = 256 * 1024


class Match(NamedTuple):
    """A prompt that meets the conditions, with what is searched of it."""

    prompt: Prompt
    document: Mapping[str, Any]
    #: Of its texts.
    bytes: int


def fit_on_a_page(matches: Iterable[Match]) -> int:
    """How many of these, from the first one, fit on one page; one at least, if there is one."""
    return count_within((match.bytes for match in matches), most_bytes=MOST_PAGE_BYTES)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """How much one listing looks at before it answers with what it has."""

    rows: int = 10_000
    seconds: float = 1.0

    def times(self, factor: int) -> Bounds:
        return Bounds(rows=self.rows * factor, seconds=self.seconds * factor)


class Matcher:
    """Reads prompts and keeps those that meet the conditions of a query."""

    def __init__(self, prompts: PromptStore, query: Query, show: Show) -> None:
        self._prompts = prompts
        self._query = query
        self._show = show

    async def read(self, entries: Sequence[Entry]) -> list[Match]:
        """An index said what a prompt was; by now it may have another status, or be erased."""
        prompts = await self._prompts.get_many([entry.ref for entry in entries]) if entries else []
        found = []
        for entry, prompt in zip(entries, prompts, strict=True):
            if prompt is not None:
                document = self._show(prompt)
                if all_match(self._query.conditions, document):
                    found.append(Match(prompt, document, entry.bytes))
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where the matches of a query are found."""

    walks: Walks
    times: Range
    matcher: Matcher
    bounds: Bounds

    def scan(self, *, descending: bool, within: Range | None = None, patience: int = 1) -> Scan:
        """A scan of the whole source or a part; ``patience`` times the bounds."""
        times = self.times & within if within else self.times
        return Scan(self.walks(times, descending=descending), self.matcher, self.bounds.times(patience))


class Scan:
    """One way through a source."""

    def __init__(self, walk: Walk, matcher: Matcher, bounds: Bounds) -> None:
        self._walk = walk
        self._matcher = matcher
        #: Yielded by the walk and not looked at yet.
        self._next: deque[Entry] = deque()
        self._position_us: int | None = None
        self._rows_left = bounds.rows
        self._deadline = time.monotonic() + bounds.seconds

    @property
    def has_ended(self) -> bool:
        """Everything was looked at."""
        return self._walk.has_ended and not self._next

    @property
    def goes_on(self) -> bool:
        """There is more to look at, and within the bounds; something is looked at whatever they are, or pages would not end."""
        is_within = self._position_us is None or (self._rows_left > 0 and time.monotonic() < self._deadline)
        return is_within and not self.has_ended

    @property
    def position_us(self) -> int:
        """Creation of the last prompt that was looked at."""
        assert self._position_us is not None
        return self._position_us

    async def chunk(self, most: int = CHUNK) -> list[Match]:
        """The next matches, perhaps none."""
        if not self._next:
            self._next.extend(await self._walk.step(min(most, CHUNK, self._rows_left)))
        count = count_within((entry.bytes for entry in self._next), most_bytes=MOST_CHUNK_BYTES)
        entries = [self._next.popleft() for _ in range(count)]
        if entries:
            self._rows_left -= len(entries)
            self._position_us = entries[-1].created_us
        return await self._matcher.read(entries)

    async def count(self) -> int:
        """The matches from here to the end, or to the bounds."""
        matches = 0
        while self.goes_on:
            matches += len(await self.chunk())
        return matches
