"""Which indexes hold the prompts that a query's conditions leave over."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from redis.asyncio import Redis

from pipeline.prompt import make_ref
from pipeline.query import Narrowed
from pipeline.states import Status
from pipeline.store.keys import Keys
from pipeline.store.replies import text

#: Indexes merged in one walk; where it would take more, one that holds more prompts is looked through instead.
MOST_INDEXES = 6000
#: Prompts that one listing by id looks at: ids are unique per user only.
MOST_NAMED = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """Indexes without a prompt in common."""

    keys: list[str]
    #: They hold nothing that the conditions on indexed fields, creation aside, do not allow.
    is_exact: bool


class Indexes:
    """Of one namespace."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    async def narrowest(self, narrowed: Narrowed) -> Found:
        """The indexes that hold the fewest prompts besides those that are wanted."""
        keys, users, statuses = self._keys, narrowed.users, narrowed.statuses
        if narrowed.threads is not None:
            in_threads = await self._of_users(narrowed.threads, users, keys.thread_owner(), keys.thread_owners)
            every = list(statuses if statuses is not None else Status)
            if len(in_threads) * len(every) <= MOST_INDEXES:
                threads = [f"{user}/{thread}" for user, thread in in_threads]
                return Found(keys=[keys.by_thread_status(s, t) for t in threads for s in every], is_exact=True)
        is_exact = narrowed.threads is None
        if users is not None and len(users) * len(statuses or [""]) <= MOST_INDEXES:
            if statuses is None:
                return Found(keys=[keys.by_user(user) for user in users], is_exact=is_exact)
            return Found(keys=[keys.by_user_status(s, user) for user in users for s in statuses], is_exact=is_exact)
        is_exact = is_exact and users is None
        if statuses is not None:
            return Found(keys=[keys.by_status(status) for status in statuses], is_exact=is_exact)
        return Found(keys=[keys.all()], is_exact=is_exact)

    async def named(self, narrowed: Narrowed) -> tuple[list[str], bool]:
        """Refs of the prompts with the wanted ids, and whether these are all."""
        assert narrowed.ids is not None
        found = await self._of_users(narrowed.ids, narrowed.users, self._keys.owner(), self._keys.owners)
        return [make_ref(user, prompt_id) for user, prompt_id in found[:MOST_NAMED]], len(found) <= MOST_NAMED

    async def _of_users(
        self, names: Iterable[str], users: Iterable[str] | None, first: str, others: Callable[[str], str]
    ) -> list[tuple[str, str]]:
        """(user, name) for whoever may use one of the names; a little more than ``MOST_NAMED`` at most where users are
        not given."""
        names = list(names)
        if users is not None:
            users = list(users)
            return [(user, name) for name in names for user in users]
        pipe = self._client.pipeline(transaction=True)
        pipe.hmget(first, names)
        for name in names:
            pipe.zrange(others(name), 0, MOST_NAMED // len(names))
        firsts, *rest = await pipe.execute()
        return [
            (text(user), name)
            for name, owner, more in zip(names, firsts, rest, strict=True)
            if owner is not None
            for user in (owner, *more)
        ]
