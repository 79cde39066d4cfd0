"""Which model an admin has made the default. Kept in the store, so that every ingress replica goes by it."""

from __future__ import annotations

from redis.asyncio import Redis

from pipeline.store.keys import Keys
from pipeline.store.replies import text


class DefaultModelStore:
    """Every method may raise redis errors."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._key = keys.default_model()

    async def get(self) -> str | None:
        """The model's id, None while the one of the settings applies."""
        model_id = await self._client.get(self._key)
        return None if model_id is None else text(model_id)

    async def set(self, model_id: str) -> None:
        await self._client.set(self._key, model_id)
