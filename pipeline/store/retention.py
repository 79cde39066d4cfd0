"""How long prompts are kept after their end."""

from __future__ import annotations

from collections.abc import Mapping

from redis.asyncio import Redis

from pipeline.states import Status
from pipeline.store.keys import Keys
from pipeline.store.scripts import Scripts

#: Prompts erased by one script: a few milliseconds of the store's time.
BATCH = 200
_DAY_US = 86_400 * 1_000_000


class Retention:
    """Erases the prompts of all models whose time is over, with their text. May raise redis errors."""

    def __init__(self, client: Redis, keys: Keys, days: Mapping[Status, float]) -> None:
        """``days`` a prompt is kept after its end, by the status it ended in; without an entry for ever."""
        self._scripts = Scripts(client, keys.namespace)
        self._kept = [part for status, kept in days.items() for part in (status.value, round(kept * _DAY_US))]

    @property
    def is_for_ever(self) -> bool:
        return not self._kept

    async def erase_expired(self, most: int = BATCH) -> int:
        """Erase what has been kept long enough, the longest kept first. Returns how many; ``most`` of them: there may be
        more."""
        return int(await self._scripts.run("retain", most, *self._kept))
