"""Chat messages: the user's, written with the prompt, and the answer, written with its completion."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from pipeline.store.keys import Keys
from pipeline.store.replies import text


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
    #: Files that go with it.
    file_ids: tuple[str, ...] = ()


class MessageStore:
    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    async def get(self, user_id: str, message_id: str) -> Message | None:
        reply = await self._client.hgetall(self._keys.message(f"{user_id}/{message_id}"))
        if not reply:
            return None
        record = {text(field): text(value) for field, value in reply.items()}
        meta = record.get("meta")
        return Message(
            id=record["id"],
            thread_id=record["thread"],
            text=record["text"],
            user_id=record.get("user", ""),
            created_us=int(record["created"]),
            meta=None if meta is None else json.loads(meta),
            file_ids=tuple(json.loads(record.get("files", "[]"))),
        )
