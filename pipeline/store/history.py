"""What was said in a thread before a prompt, as the model is to hear it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from pipeline.conversation import Author, Said
from pipeline.store.keys import Keys
from pipeline.store.replies import text
from pipeline.store.sizes import first_within

#: Texts that a page reads, bytes: a replica may do this for as many prompts at once as it has permits.
MOST_PAGE_BYTES = 1024 * 1024


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
        """Up to ``most`` messages, fewer where they are long, whose order is below ``before`` (of a message, or of a page's end),
        newest first.

        What a prompt asked stands at twice its place less one, its answer right behind it (accept.lua, finish.lua). A question
        that got no answer (abandoned, canceled) is left out: the model would hear somebody insist.
        """
        rows: Any = await self._client.zrevrangebyscore(
            self._keys.thread_messages(f"{user_id}/{thread_id}"), f"({before}", "-inf", 0, most, withscores=True
        )
        ids = [text(message_id) for message_id, _ in rows]
        taken = await first_within(self._client, self._keys, user_id, ids, most_bytes=MOST_PAGE_BYTES)
        is_last = taken == len(rows) < most
        rows = rows[:taken]
        pipe = self._client.pipeline(transaction=False)
        for message_id in ids[:taken]:
            pipe.hmget(self._keys.message(f"{user_id}/{message_id}"), "text", "user", "prompt")
        records: list[list[Any]] = await pipe.execute() if rows else []
        answered = {int(order) - 1 for order in (before, *(order for _, order in rows)) if int(order) % 2 == 0}
        said = []
        for (_, order), (words, user, prompt) in zip(rows, records, strict=True):
            if words is None:
                continue  # deleted meanwhile
            if user is not None and prompt is not None and int(order) not in answered:
                continue
            said.append(Said(author=Author.ASSISTANT if user is None else Author.USER, text=words.decode()))
        return HistoryPage(said=said, before=None if is_last else int(rows[-1][1]))
