"""Pages in an order that no index has.

A page is sorted from a window of prompts, the newest ones first: as many as the bounds let it look at. Where all fit into one
window the order is the one asked for; where they do not, each window is sorted by itself and the next one goes on behind it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any

from pipeline.errors import StoreUnavailable
from pipeline.query import Query, Range, SortedCursor
from pipeline.query.order import place, sort_values
from pipeline.store.page import MOST_PAGE_BYTES, Page
from pipeline.store.scan import Match, Source, fit_on_a_page

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
        #: (place, values, match)
        self._kept: list[tuple[Any, Any, Match]] = []
        self._kept_bytes = 0
        #: Creation of the newest one seen.
        self.newest_us: int | None = None

    def add(self, found: Iterable[Match]) -> None:
        for match in found:
            created_us = match.prompt.created_us
            self.newest_us = max(self.newest_us or 0, created_us)
            values = sort_values(self._keys, match.document, self.seed)
            at = place(self._keys, values, created_us)
            if self._behind is None or at > self._behind:
                self._kept.append((at, values, match))
                self._kept_bytes += match.bytes
        if len(self._kept) > 2 * self._limit or self._kept_bytes > MOST_PAGE_BYTES:
            self._cut()

    def _cut(self) -> int:
        """Keeps a page, and one more that tells whether there is more. Returns how many are on the page."""
        self._kept.sort(key=lambda kept: kept[0])
        shown = fit_on_a_page(match for *_, match in self._kept[: self._limit])
        del self._kept[shown + 1 :]
        self._kept_bytes = sum(match.bytes for *_, match in self._kept)
        return shown

    def page(self, *, newest_us: int, oldest_us: int | None) -> Page:
        """The first ones; the window is what a cursor will begin with."""
        shown = self._kept[: self._cut()]
        after = None
        is_cut_short = len(shown) < min(self._limit, len(self._kept))
        if len(self._kept) > len(shown):
            _, values, last = shown[-1]
            after = SortedCursor(
                newest_us=newest_us,
                oldest_us=oldest_us,
                values=values,
                created_us=last.prompt.created_us,
                seed=self.seed,
            )
        elif oldest_us is not None:
            after = SortedCursor(newest_us=oldest_us - 1, oldest_us=None, values=None, seed=self.seed)
        return Page(
            prompts=[match.prompt for *_, match in shown],
            after=None if after is None else str(after),
            is_truncated=oldest_us is not None or is_cut_short,
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
