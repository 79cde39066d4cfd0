"""Lists prompts, from the narrowest indexes a query allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from redis.asyncio import Redis

from pipeline.prompt import Prompt
from pipeline.query import LATEST_US, Narrowed, Query, Range, SortedCursor, narrow
from pipeline.store.indexes import Indexes
from pipeline.store.keys import Keys
from pipeline.store.page import Page
from pipeline.store.prompts import PromptStore
from pipeline.store.scan import CHUNK, Bounds, Matcher, Show, Source
from pipeline.store.scripts import Scripts
from pipeline.store.sorted_page import Sorter, sorted_page
from pipeline.store.walk import count_entries

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
        """The first ``query.limit`` matches behind the cursor. ``user_id`` None lists every user's (for admins).

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
        source = Source(
            scripts=self._scripts, indexes=found.keys, times=narrowed.created, matcher=matcher, bounds=self._bounds
        )
        page = await (self._by_creation(query, source) if query.is_by_creation else sorted_page(query, source))
        if not query.count:
            return page
        if narrowed.is_exact and found.is_exact:
            return replace(page, count=await count_entries(self._scripts, found.keys, narrowed.created))
        scan = source.scan(descending=True)
        return replace(page, count=await scan.count(), is_count_partial=not scan.has_ended)

    async def _by_creation(self, query: Query, source: Source) -> Page:
        rows: list[Prompt] = []
        least = _LEAST
        scan = source.scan(descending=query.is_descending, within=self._rest(query))
        while scan.goes_on and len(rows) <= query.limit:
            # One more than is shown tells whether there is more.
            rows += [prompt for prompt, _ in await scan.chunk(max(query.limit + 1 - len(rows), least))]
            least *= 2  # where few match, in few round trips
        if len(rows) > query.limit:
            shown = rows[: query.limit]
            return Page(prompts=shown, after=self._time_of(shown[-1].created_us))
        if scan.has_ended:
            return Page(prompts=rows)
        return Page(prompts=rows, after=self._time_of(scan.position_us), is_truncated=len(rows) < query.limit)

    async def _named(self, query: Query, narrowed: Narrowed, matcher: Matcher) -> Page:
        """Prompts by id: so few that each is looked at."""
        refs, is_complete = await self._indexes.named(narrowed)
        found = [match for i in range(0, len(refs), CHUNK) for match in await matcher.read(refs[i : i + CHUNK])]
        if query.is_by_creation:
            rows = sorted((prompt for prompt, _ in found), key=lambda p: p.created_us, reverse=query.is_descending)
            rest = self._rest(query)
            rows = [prompt for prompt in rows if rest.first_us <= prompt.created_us <= rest.last_us]
            shown = rows[: query.limit]
            after = self._time_of(shown[-1].created_us) if len(shown) < len(rows) else None
            page = Page(prompts=shown, after=after)
        else:
            sorter = Sorter(query, query.after if isinstance(query.after, SortedCursor) else None)
            sorter.add(found)
            page = sorter.page(newest_us=LATEST_US, oldest_us=None)
        page = replace(page, is_truncated=not is_complete)
        return replace(page, count=len(found), is_count_partial=not is_complete) if query.count else page

    def _rest(self, query: Query) -> Range:
        """What comes behind the cursor of a listing by creation."""
        if isinstance(query.after, int):
            return Range().after(query.after, descending=query.is_descending)
        return Range()
