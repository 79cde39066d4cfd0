"""Threads of chat messages: one user's each, made on purpose (a conversation) or by the first prompt that names it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from redis.asyncio import Redis

from pipeline.errors import NotFound
from pipeline.store.keys import Keys
from pipeline.store.prompts import PromptStore
from pipeline.store.replies import text
from pipeline.store.scripts import Scripts

#: Prompts or messages that a step of deleting a thread touches.
DELETED_TOGETHER = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Thread:
    id: str
    user_id: str
    #: Empty for one whose first prompt was erased.
    title: str
    topic_ids: tuple[str, ...]
    #: Microseconds since the epoch.
    created_us: int
    #: Of its title, its topics, or when something was last posted.
    updated_us: int
    #: Whether prompts get its history, unless they say otherwise.
    is_conversation: bool


class ThreadStore:
    """Every method may raise redis errors. Threads of other users do not exist here."""

    def __init__(self, client: Redis, keys: Keys, prompts: PromptStore) -> None:
        self._client = client
        self._keys = keys
        self._prompts = prompts
        self._scripts = Scripts(client, keys.namespace)

    async def save(
        self,
        user_id: str,
        thread_id: str,
        *,
        default_title: str,
        title: str | None = None,
        topic_ids: Sequence[str] | None = None,
    ) -> Thread:
        """Make a conversation, or change what is given of a thread that is there already."""
        given: list[str] = []
        if title:
            given += ["title", title]
        if topic_ids is not None:
            given += ["topics", json.dumps(list(topic_ids))]
        reply = await self._scripts.run("save_thread", user_id, thread_id, default_title, *given)
        return _thread(user_id, thread_id, dict(zip(reply[::2], reply[1::2], strict=True)))

    async def get(self, user_id: str, thread_id: str) -> Thread:
        """
        Raises:
            NotFound: the user has no such thread.
        """
        (thread,) = await self.get_many(user_id, [thread_id])
        if thread is None:
            raise NotFound
        return thread

    async def get_many(self, user_id: str, thread_ids: Sequence[str]) -> list[Thread | None]:
        pipe = self._client.pipeline(transaction=False)
        for thread_id in thread_ids:
            pipe.hgetall(self._keys.thread(f"{user_id}/{thread_id}"))
        records = await pipe.execute() if thread_ids else []
        # A thread that is gone keeps its count of places for a while.
        return [
            _thread(user_id, thread_id, record) if b"created" in record else None
            for thread_id, record in zip(thread_ids, records, strict=True)
        ]

    async def page(self, user_id: str, *, limit: int, after_us: int | None = None) -> list[Thread]:
        """The user's threads, newest first; those made before ``after_us`` (microseconds) if it is given."""
        ids = await self._client.zrevrangebyscore(
            self._keys.threads(user_id), "+inf" if after_us is None else f"({after_us}", "-inf", 0, limit
        )
        found = await self.get_many(user_id, [text(thread_id) for thread_id in ids])
        return [thread for thread in found if thread is not None]

    async def oldest(self, user_id: str, count: int) -> list[str]:
        """Ids of the user's oldest threads, by age."""
        return [text(thread_id) for thread_id in await self._client.zrange(self._keys.threads(user_id), 0, count - 1)]

    async def delete(self, user_id: str, thread_id: str) -> None:
        """Cancel what has not ended, then remove every prompt and message with its text, and the thread. If it breaks off, what
        is left is still a thread that can be deleted. What is posted meanwhile may stay.

        Raises:
            NotFound: the user has no such thread.
        """
        thread = f"{user_id}/{thread_id}"
        created, place = await self._client.hmget(self._keys.thread(thread), "created", "place")
        if created is None:
            raise NotFound
        last = int(place or 0)
        await self._cancel_open(thread, last)
        await self._erase_all(thread, last)
        while await self._scripts.run("delete_thread", user_id, thread_id, last, DELETED_TOGETHER):
            pass

    async def _cancel_open(self, thread: str, last: int) -> None:
        while refs := await self._client.zrevrangebyscore(
            self._keys.thread_open(thread), last, "-inf", 0, DELETED_TOGETHER
        ):
            # The newest first, one by one: the end of an earlier one would put the next one into the queue.
            for ref in refs:
                with suppress(NotFound):
                    await self._prompts.cancel(text(ref))

    async def _erase_all(self, thread: str, last: int) -> None:
        while refs := await self._client.zrangebyscore(
            self._keys.thread_prompts(thread), "-inf", last, 0, DELETED_TOGETHER
        ):
            for ref in refs:
                with suppress(NotFound):
                    await self._prompts.erase(text(ref))


def _thread(user_id: str, thread_id: str, record: Mapping[bytes, bytes]) -> Thread:
    return Thread(
        id=thread_id,
        user_id=user_id,
        title=record.get(b"title", b"").decode(),
        topic_ids=tuple(json.loads(record.get(b"topics", b"[]"))),
        created_us=int(record[b"created"]),
        updated_us=int(record[b"updated"]),
        is_conversation=b"conversation" in record,
    )
