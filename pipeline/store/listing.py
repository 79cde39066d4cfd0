"""Lists prompts, from the narrowest indexes a query allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from redis.asyncio import Redis

from pipeline.query import Narrowed, Query, Range, narrow
from pipeline.store.indexes import Indexes
from pipeline.store.keys import Keys
from pipeline.store.page import MOST_PAGE_BYTES, Page
from pipeline.store.prompts import PromptStore
from pipeline.store.scan import Bounds, Match, Matcher, Show, Source, fit_on_a_page
from pipeline.store.scripts import Scripts
from pipeline.store.sorted_page import sorted_page
from pipeline.store.walk import IndexWalk, ListWalk, count_entries, measured

#: Fewer rows at a time are not worth a round trip.
_LEAST = 10


class Listing:
    """Lists prompts of one user, or of everybody."""

    def __init__(
        self,
        client: Redis,
        keys: Keys,
        prompts: PromptStore,
        *,
        time_of: Callable[[int], str],
        bounds: Bounds | None = None,
    ) -> None:
        """``time_of`` writes microseconds since the epoch the way clients are shown them: a page by creation ends with one."""
        self._scripts = Scripts(client, keys.namespace)
        self._indexes = Indexes(client, keys)
        self._prompts = prompts
        self._time_of = time_of
        self._bounds = bounds or Bounds()

    async def page(self, query: Query, *, user_id: str | None, show: Show) -> Page:
        """The first ``query.limit`` matches behind the cursor, fewer if they are long. ``user_id`` None lists every user's (for
        admins).

        By creation (the default), following ``after`` to the end meets every prompt once that matches all the time, whatever is
        added or changes its status meanwhile. In other orders so for prompts whose sorted values stay the same; those
        added since the first page are left out.

        Raises:
            StoreUnavailable: see ``sorted_page``.
        """
        narrowed = narrow(query.conditions)
        if user_id is not None:
            narrowed = narrowed.of_user(user_id)
        if narrowed.is_empty:
            return Page(prompts=[], count=0 if query.count else None)
        matcher = Matcher(self._prompts, query, show)
        if narrowed.ids is not None:
            return await self._named(query, narrowed, matcher)
        found = await self._indexes.narrowest(narrowed)
        walks = partial(IndexWalk, self._scripts, found.keys)
        source = Source(walks=walks, times=narrowed.created, matcher=matcher, bounds=self._bounds)
        page = await self._page(query, source)
        if query.count and narrowed.is_exact and found.is_exact:
            return replace(page, count=await count_entries(self._scripts, found.keys, narrowed.created))
        return await self._counted(page, source) if query.count else page

    async def _named(self, query: Query, narrowed: Narrowed, matcher: Matcher) -> Page:
        """Prompts by id: so few that they are sorted here."""
        refs, is_complete = await self._indexes.named(narrowed)
        walks = partial(ListWalk, await measured(self._scripts, refs))
        source = Source(walks=walks, times=narrowed.created, matcher=matcher, bounds=self._bounds)
        page = await self._page(query, source)
        if query.count and query.after is None and page.after is None:
            # All of them, without a second look.
            page = replace(page, count=len(page.prompts))
        elif query.count:
            page = await self._counted(page, source)
        if is_complete:
            return page
        return replace(page, is_truncated=True, is_count_partial=query.count)

    async def _page(self, query: Query, source: Source) -> Page:
        return await (self._by_creation(query, source) if query.is_by_creation else sorted_page(query, source))

    async def _counted(self, page: Page, source: Source) -> Page:
        scan = source.scan(descending=True)
        return replace(page, count=await scan.count(), is_count_partial=not scan.has_ended)

    async def _by_creation(self, query: Query, source: Source) -> Page:
        found: list[Match] = []
        size = 0
        least = _LEAST
        scan = source.scan(descending=query.is_descending, within=self._rest(query))
        while scan.goes_on and len(found) <= query.limit and size <= MOST_PAGE_BYTES:
            # One more than is shown tells whether there is more.
            matches = await scan.chunk(max(query.limit + 1 - len(found), least))
            found += matches
            size += sum(match.bytes for match in matches)
            least *= 2  # where few match, in few round trips
        prompts = [match.prompt for match in found[: fit_on_a_page(found[: query.limit])]]
        is_short = len(prompts) < query.limit
        if len(prompts) < len(found):
            return Page(prompts=prompts, after=self._time_of(prompts[-1].created_us), is_truncated=is_short)
        if scan.has_ended:
            return Page(prompts=prompts)
        return Page(prompts=prompts, after=self._time_of(scan.position_us), is_truncated=is_short)

    def _rest(self, query: Query) -> Range:
        """What comes behind the cursor of a listing by creation."""
        if isinstance(query.after, int):
            return Range().after(query.after, descending=query.is_descending)
        return Range()
