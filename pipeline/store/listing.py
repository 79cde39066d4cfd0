"""Pages of prompts, from the narrowest index a query allows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from redis.asyncio import Redis

from pipeline.prompt import Prompt, make_ref
from pipeline.query import Query
from pipeline.store.keys import Keys
from pipeline.store.prompts import PromptStore
from pipeline.store.replies import text

#: Members of an index read at a time.
CHUNK = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    prompts: list[Prompt]
    #: All matches, whatever the limit; None unless the query asked.
    count: int | None


class Listing:
    """Lists prompts of one user, or of everybody."""

    def __init__(self, client: Redis, keys: Keys, prompts: PromptStore) -> None:
        self._client = client
        self._keys = keys
        self._prompts = prompts

    async def page(self, query: Query, *, user_id: str | None) -> Page:
        """The first ``query.limit`` matches in order. ``user_id`` None lists every user's (for admins)."""
        indexes, exact = self._indexes(query, user_id)
        if query.ids is not None:
            found = await self._by_id(query, user_id)
            return Page(prompts=found[: query.limit], count=len(found) if query.count else None)
        prompts: list[Prompt] = []
        matches = 0
        async for prompt in self._walk(indexes, query, stop_early=exact or not query.count):
            if _matches(prompt, query):
                matches += 1
                if len(prompts) < query.limit:
                    prompts.append(prompt)
                elif exact or not query.count:
                    break
        count = (await self._cardinality(indexes) if exact else matches) if query.count else None
        return Page(prompts=prompts, count=count)

    def _indexes(self, query: Query, user_id: str | None) -> tuple[list[str], bool]:
        """The sorted sets to walk, and whether their members are the matches and nothing else."""
        keys = self._keys
        if user_id is None:
            if query.statuses is not None:
                return [keys.by_status(status) for status in query.statuses], query.thread_ids is None
            return [keys.all()], query.thread_ids is None
        if query.thread_ids is not None:
            return [keys.thread_prompts(f"{user_id}/{thread}") for thread in query.thread_ids], query.statuses is None
        if query.statuses is not None:
            return [keys.by_user_status(status, user_id) for status in query.statuses], True
        return [keys.by_user(user_id)], True

    async def _cardinality(self, indexes: list[str]) -> int:
        pipe = self._client.pipeline(transaction=False)
        for index in indexes:
            pipe.zcard(index)
        return sum(await pipe.execute())

    async def _by_id(self, query: Query, user_id: str | None) -> list[Prompt]:
        assert query.ids is not None
        refs = []
        for prompt_id in query.ids:
            owner = user_id or await self._prompts.owner_of(prompt_id)
            if owner is not None:
                refs.append(make_ref(owner, prompt_id))
        found = [p for p in await self._prompts.get_many(refs) if p is not None and _matches(p, query)]
        return sorted(found, key=lambda prompt: prompt.created_us, reverse=query.descending)

    async def _walk(self, indexes: list[str], query: Query, *, stop_early: bool) -> AsyncIterator[Prompt]:
        """Every prompt of the indexes, merged in the order asked for. What disappears meanwhile is left out."""
        chunk = min(CHUNK, query.limit + 1) if stop_early else CHUNK
        heads: list[list[Prompt]] = [[] for _ in indexes]
        offsets: list[int | None] = [0 for _ in indexes]
        while True:
            for i, index in enumerate(indexes):
                offset = offsets[i]
                while not heads[i] and offset is not None:
                    refs = await self._client.zrange(index, offset, offset + chunk - 1, desc=query.descending)
                    offset = offset + len(refs) if len(refs) == chunk else None
                    heads[i] = [p for p in await self._prompts.get_many([text(ref) for ref in refs]) if p is not None]
                offsets[i] = offset
            waiting = [head for head in heads if head]
            if not waiting:
                return
            choose = max if query.descending else min
            yield choose(waiting, key=lambda head: head[0].created_us).pop(0)


def _matches(prompt: Prompt, query: Query) -> bool:
    return (query.statuses is None or prompt.status in query.statuses) and (
        query.thread_ids is None or prompt.thread_id in query.thread_ids
    )
