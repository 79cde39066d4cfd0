"""Chat messages: the user's, written with the prompt; the answer, written with its completion; and those posted by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from pipeline.errors import Conflict, NotFound, StoreFull, TooLarge
from pipeline.store.keys import Keys
from pipeline.store.replies import text
from pipeline.store.scripts import Scripts
from pipeline.store.sizes import first_within

#: Texts and metadata of one reply, bytes; a page ends before it gets longer.
MOST_PAGE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    id: str
    thread_id: str
    text: str
    #: Empty for an answer.
    user_id: str
    #: Microseconds since the epoch.
    created_us: int
    meta: Mapping[str, Any] | None
    file_ids: tuple[str, ...] = ()
    #: When it was last replaced, 0 = never.
    updated_us: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class MessagePage:
    messages: list[Message]
    #: Order of the last message, if there are more behind it.
    after: int | None


class MessageStore:
    """Every method may raise redis errors. Messages of other users do not exist here."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._scripts = Scripts(client, keys.namespace)

    async def get(self, user_id: str, message_id: str) -> Message | None:
        (message,) = await self.get_many(user_id, [message_id])
        return message

    async def get_many(self, user_id: str, message_ids: Sequence[str]) -> list[Message | None]:
        pipe = self._client.pipeline(transaction=False)
        for message_id in message_ids:
            pipe.hgetall(self._keys.message(f"{user_id}/{message_id}"))
        return [_message(record) if record else None for record in (await pipe.execute() if message_ids else [])]

    async def by_ids(self, user_id: str, message_ids: Sequence[str]) -> list[Message]:
        """Those of these messages that the user has.

        Raises:
            TooLarge: they are too long to be read at once.
        """
        most = MOST_PAGE_BYTES
        if await first_within(self._client, self._keys, user_id, message_ids, most_bytes=most) < len(message_ids):
            raise TooLarge(f"ids: these messages are longer than {most} bytes together, ask for fewer")
        return [message for message in await self.get_many(user_id, message_ids) if message is not None]

    async def page(self, user_id: str, thread_id: str, *, limit: int, after: int | None = None) -> MessagePage:
        """A thread's messages in its order: each prompt's with its answer, in the order of submission. A page has up to
        ``limit`` of them, fewer if they are long; the next one begins behind ``after``."""
        rows: Any = await self._client.zrangebyscore(
            self._keys.thread_messages(f"{user_id}/{thread_id}"),
            "-inf" if after is None else f"({after}",
            "+inf",
            0,
            limit + 1,
            withscores=True,
        )
        ids = [text(message_id) for message_id, _ in rows[:limit]]
        taken = await first_within(self._client, self._keys, user_id, ids, most_bytes=MOST_PAGE_BYTES)
        found = await self.get_many(user_id, ids[:taken])
        return MessagePage(
            messages=[message for message in found if message is not None],
            after=int(rows[taken - 1][1]) if taken < len(rows) else None,
        )

    async def save(
        self,
        user_id: str,
        thread_id: str,
        message_id: str,
        *,
        text: str,
        is_answer: bool = False,
        file_ids: Sequence[str] = (),
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        """Post a message to a thread, behind all that is there; or replace the one with this id, where it stands. The message of
        a prompt, and its answer, keep their author.

        Raises:
            NotFound: the user has no such thread.
            Conflict: the id is a message of another thread.
            StoreFull
        """
        fields = ["text", text]
        if file_ids:
            fields += ["files", json.dumps(list(file_ids))]
        if meta:
            fields += ["meta", json.dumps(meta)]
        author = "" if is_answer else user_id
        outcome = await self._scripts.run("save_message", user_id, thread_id, message_id, author, *fields)
        if outcome == b"missing":
            raise NotFound
        if outcome == b"taken":
            raise Conflict("id: a message of another thread has this id")
        if outcome == b"full":
            raise StoreFull

    async def delete(self, user_id: str, message_id: str) -> None:
        """Remove a message from its thread, and so from what later prompts get of it. The prompt it belongs to stays.

        Raises:
            NotFound: the user has no such message.
        """
        if not await self._scripts.run("delete_message", user_id, message_id):
            raise NotFound


def _message(record: Mapping[bytes, bytes]) -> Message:
    meta = record.get(b"meta")
    return Message(
        id=record[b"id"].decode(),
        thread_id=record[b"thread"].decode(),
        text=record[b"text"].decode(),
        user_id=record.get(b"user", b"").decode(),
        created_us=int(record[b"created"]),
        meta=None if meta is None else json.loads(meta),
        file_ids=tuple(json.loads(record.get(b"files", b"[]"))),
        updated_us=int(record.get(b"updated", 0)),
    )
