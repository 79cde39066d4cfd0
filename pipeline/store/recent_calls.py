"""Which prompt a request began lately: clients that lost the reply send the same request again, with nothing to tell it by."""

from __future__ import annotations

from redis.asyncio import Redis

from pipeline.store.connection import translated_errors
from pipeline.store.keys import Keys
from pipeline.store.replies import text

#: How long a request is known, seconds (contract openai §4.1, point 3).
REMEMBERED_S = 60


class RecentCalls:
    """Requests by user and digest."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    async def remember(self, user_id: str, digest: str, prompt_id: str) -> None:
        """Raises StoreUnavailable."""
        with translated_errors():
            await self._client.set(self._keys.recent_call(f"{user_id}/{digest}"), prompt_id, ex=REMEMBERED_S)

    async def find(self, user_id: str, digest: str) -> str | None:
        """The prompt that the user's latest such request began. Raises StoreUnavailable."""
        with translated_errors():
            found = await self._client.get(self._keys.recent_call(f"{user_id}/{digest}"))
        return None if found is None else text(found)
