"""Templates that users have saved, by name."""

from __future__ import annotations

from dataclasses import dataclass

from redis.asyncio import Redis

from pipeline.errors import Conflict
from pipeline.store.keys import Keys
from pipeline.store.replies import text
from pipeline.store.scripts import Scripts

#: Templates of one user.
MOST_TEMPLATES = 100
#: Characters of one.
MOST_CHARACTERS = 16 * 1024


class TooManyTemplates(Conflict):
    """You have as many saved templates as are allowed (100): delete one first"""


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedTemplate:
    name: str
    #: As it was sent, escapes included.
    template: str
    #: Microseconds since the epoch.
    created_us: int
    updated_us: int


class TemplateStore:
    """Every method may raise redis errors. Bounds of names and lengths are the caller's to check."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._scripts = Scripts(client, keys.namespace)

    async def save(self, user_id: str, name: str, template: str) -> SavedTemplate:
        """Create the template, or replace the one of that name.

        Raises:
            TooManyTemplates: the user has ``MOST_TEMPLATES`` others.
        """
        times = await self._scripts.run("save_template", user_id, name, template, MOST_TEMPLATES)
        if not times:
            raise TooManyTemplates
        created, updated = map(int, times)
        return SavedTemplate(name=name, template=template, created_us=created, updated_us=updated)

    async def get(self, user_id: str, name: str) -> SavedTemplate | None:
        stored = await self._client.hget(self._keys.templates(user_id), name)
        return None if stored is None else _read(name, text(stored))

    async def all(self, user_id: str) -> list[SavedTemplate]:
        """By name."""
        stored = await self._client.hgetall(self._keys.templates(user_id))
        return [_read(name, value) for name, value in sorted((text(k), text(v)) for k, v in stored.items())]

    async def delete(self, user_id: str, name: str) -> bool:
        """False if there was none of that name."""
        return bool(await self._client.hdel(self._keys.templates(user_id), name))


def _read(name: str, stored: str) -> SavedTemplate:
    created, updated, template = stored.split(" ", 2)
    return SavedTemplate(name=name, template=template, created_us=int(created), updated_us=int(updated))
