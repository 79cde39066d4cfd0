"""Looking at prompts one after another for those that meet a query's conditions, within bounds of rows and time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from pipeline.prompt import Prompt
from pipeline.query import Query, Range
from pipeline.store.prompts import PromptStore
from pipeline.store.scripts import Scripts
from pipeline.store.walk import IndexWalk

#: What of a prompt the one who lists may search. Conditions and orders see nothing else, so they cannot ask about what is hidden.
Show: TypeAlias = Callable[[Prompt], Mapping[str, Any]]

#: Records read at a time.
CHUNK = 100


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

    async def read(self, refs: Sequence[str]) -> list[tuple[Prompt, Mapping[str, Any]]]:
        """Each with what is shown of it. An index said what a prompt was; by now it may have another status, or be erased."""
        found = []
        for prompt in await self._prompts.get_many(refs) if refs else ():
            if prompt is not None:
                document = self._show(prompt)
                if all(condition.matches(document) for condition in self._query.conditions):
                    found.append((prompt, document))
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where the matches of a query are found."""

    scripts: Scripts
    indexes: Sequence[str]
    times: Range
    matcher: Matcher
    bounds: Bounds

    def scan(self, *, descending: bool, within: Range | None = None, patience: int = 1) -> Scan:
        """A scan of the whole source or a part; ``patience`` times the bounds."""
        times = self.times & within if within else self.times
        walk = IndexWalk(self.scripts, self.indexes, times, descending=descending)
        return Scan(walk, self.matcher, self.bounds.times(patience))


class Scan:
    """One way through a source."""

    def __init__(self, walk: IndexWalk, matcher: Matcher, bounds: Bounds) -> None:
        self._walk = walk
        self._matcher = matcher
        self._rows_left = bounds.rows
        self._deadline = time.monotonic() + bounds.seconds

    @property
    def has_ended(self) -> bool:
        """Everything was looked at."""
        return self._walk.has_ended

    @property
    def goes_on(self) -> bool:
        """There is more to look at, and within the bounds."""
        return not self.has_ended and self._rows_left > 0 and time.monotonic() < self._deadline

    @property
    def position_us(self) -> int:
        """Creation of the last prompt that was looked at."""
        assert self._walk.position_us is not None
        return self._walk.position_us

    async def chunk(self, most: int = CHUNK) -> list[tuple[Prompt, Mapping[str, Any]]]:
        """The next matches, perhaps none."""
        refs = await self._walk.step(min(most, CHUNK, self._rows_left))
        self._rows_left -= len(refs)
        return await self._matcher.read(refs)

    async def count(self) -> int:
        """The matches from here to the end, or to the bounds."""
        matches = 0
        while self.goes_on:
            matches += len(await self.chunk())
        return matches
