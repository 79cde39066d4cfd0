"""Pages in an order that no index has.

A page is sorted from a window of prompts, the newest ones first: as many as the bounds let it look at. Where all fit into one
window the order is the one asked for; where they do not, each window is sorted by itself and the next one goes on behind it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.errors import StoreUnavailable
from pipeline.prompt import Prompt
from pipeline.query import Query, Range, SortedCursor
from pipeline.query.order import place, sort_values
from pipeline.store.page import Page
from pipeline.store.scan import Source

#: A window may take this many times longer when a later page is sorted from it again; it has hardly more rows.
PATIENCE = 5


class Sorter:
    """Keeps the first few prompts behind a cursor, in the order of a query."""

    def __init__(self, query: Query, cursor: SortedCursor | None) -> None:
        self._keys = query.order
        self._limit = query.limit
        self.seed = cursor.seed if cursor else secrets.token_hex(4)
        self._behind = None
        if cursor is not None and cursor.values is not None:
            self._behind = place(self._keys, cursor.values, cursor.created_us)
        #: (place, values, prompt)
        self._kept: list[tuple[Any, Any, Prompt]] = []
        #: Creation of the newest one seen.
        self.newest_us: int | None = None

    def add(self, found: Iterable[tuple[Prompt, Mapping[str, Any]]]) -> None:
        for prompt, document in found:
            self.newest_us = max(self.newest_us or 0, prompt.created_us)
            values = sort_values(self._keys, document, self.seed)
            at = place(self._keys, values, prompt.created_us)
            if self._behind is None or at > self._behind:
                self._kept.append((at, values, prompt))
        if len(self._kept) > 2 * self._limit:
            self._cut(self._limit + 1)

    def _cut(self, most: int) -> None:
        self._kept.sort(key=lambda kept: kept[0])
        del self._kept[most:]

    def page(self, *, newest_us: int, oldest_us: int | None) -> Page:
        """The first ones; the window is what a cursor will begin with."""
        self._cut(self._limit + 1)
        shown = self._kept[: self._limit]
        after = None
        if len(self._kept) > len(shown):
            _, values, last = shown[-1]
            after = SortedCursor(
                newest_us=newest_us, oldest_us=oldest_us, values=values, created_us=last.created_us, seed=self.seed
            )
        elif oldest_us is not None:
            after = SortedCursor(newest_us=oldest_us - 1, oldest_us=None, values=None, seed=self.seed)
        return Page(
            prompts=[prompt for *_, prompt in shown],
            after=None if after is None else str(after),
            is_truncated=oldest_us is not None,
        )


async def sorted_page(query: Query, source: Source) -> Page:
    """The page behind the query's cursor.

    Raises:
        StoreUnavailable: the store is too slow to read again the window that the page before was sorted from.
    """
    cursor = query.after if isinstance(query.after, SortedCursor) else None
    sorter = Sorter(query, cursor)
    if cursor is None or cursor.values is None:
        within = Range() if cursor is None else Range(last_us=cursor.newest_us)
        scan = source.scan(descending=True, within=within)
        while scan.goes_on:
            sorter.add(await scan.chunk())
        # What is added from now on is not in the window: it would have pages rearranged that were shown.
        newest = sorter.newest_us or within.last_us
        return sorter.page(newest_us=newest, oldest_us=None if scan.has_ended else scan.position_us)
    within = Range(first_us=cursor.oldest_us or 0, last_us=cursor.newest_us)
    scan = source.scan(descending=True, within=within, patience=PATIENCE)
    while scan.goes_on:
        sorter.add(await scan.chunk())
    if not scan.has_ended:
        raise StoreUnavailable("The store is too slow for this order; try again, or with narrower filters")
    return sorter.page(newest_us=cursor.newest_us, oldest_us=cursor.oldest_us)
