"""Which models the routers have in their catalogues, and the end of what waits for one that has left them all."""

from __future__ import annotations

from collections.abc import Iterable

from redis.asyncio import Redis

from pipeline.store.keys import Keys
from pipeline.store.scripts import Scripts

#: Prompts abandoned by one script: a few milliseconds of the store's time.
BATCH = 200
#: The error of a prompt that is abandoned for it.
DEPARTED = "its model has left the catalogue"


class CatalogueStore:
    """May raise redis errors."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._scripts = Scripts(client, keys.namespace)

    async def vouch(self, model_ids: Iterable[str]) -> list[str]:
        """These models are in the catalogue; say so again within a minute. Returns those that had prompts and that nobody has
        vouched for in the last one."""
        return [model.decode() for model in await self._scripts.run("vouch", *model_ids)]

    async def close_departed(self, model_id: str, most: int = BATCH) -> int:
        """Abandon prompts of a model that nobody vouches for; an attempt that holds a lease may finish. Returns how many;
        ``most`` of them: there may be more."""
        return int(await self._scripts.run("close_departed", model_id, most, DEPARTED))
