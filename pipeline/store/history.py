"""What was said in a thread before a prompt, as the model is to hear it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from pipeline.conversation import Author, Said
from pipeline.store.keys import Keys


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryPage:
    """A stretch of a thread."""

    #: Newest first.
    said: list[Said]
    #: Where the next, older page begins; None if there is none.
    before: int | None


class HistoryReader:
    """Reads threads backwards. Every method may raise redis errors."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    async def page(self, user_id: str, thread_id: str, *, before: int, most: int) -> HistoryPage:
        """Up to ``most`` messages whose order is below ``before`` (of a message, or of a page's end), newest first.

        What a prompt asked stands at twice its place less one, its answer right behind it (accept.lua, finish.lua). A question
        that got no answer (abandoned, canceled) is left out: the model would hear somebody insist.
        """
        rows: Any = await self._client.zrevrangebyscore(
            self._keys.thread_messages(f"{user_id}/{thread_id}"), f"({before}", "-inf", 0, most, withscores=True
        )
        pipe = self._client.pipeline(transaction=False)
        for message_id, _ in rows:
            pipe.hmget(self._keys.message(f"{user_id}/{message_id.decode()}"), "text", "user", "prompt")
        records: list[list[Any]] = await pipe.execute() if rows else []
        answered = {int(order) - 1 for order in (before, *(order for _, order in rows)) if int(order) % 2 == 0}
        said = []
        for (_, order), (text, user, prompt) in zip(rows, records, strict=True):
            if text is None:
                continue  # deleted meanwhile
            if user is not None and prompt is not None and int(order) not in answered:
                continue
            said.append(Said(author=Author.ASSISTANT if user is None else Author.USER, text=text.decode()))
        return HistoryPage(said=said, before=int(rows[-1][1]) if len(rows) == most else None)
