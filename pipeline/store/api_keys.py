"""API keys in the store, by the digests of the keys."""

from __future__ import annotations

from collections.abc import Mapping

from redis.asyncio import Redis

from pipeline.api_keys import MOST_KEYS, ApiKey, TooManyKeys
from pipeline.store.connection import translated_errors
from pipeline.store.keys import Keys
from pipeline.store.replies import text
from pipeline.store.scripts import Scripts

#: The time of the last use is written at most this often, seconds.
USED_EVERY_S = 60


class ApiKeyStore:
    """Every method may raise StoreUnavailable."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._scripts = Scripts(client, keys.namespace)

    async def create(self, digest: str, *, key_id: str, user_id: str, name: str, prefix: str) -> ApiKey:
        """Keep a new key.

        Raises:
            TooManyKeys: the user has ``MOST_KEYS``.
        """
        with translated_errors():
            created = await self._scripts.run("create_api_key", digest, key_id, user_id, name, prefix, MOST_KEYS)
        if not int(created):
            raise TooManyKeys(f"There are {MOST_KEYS} API keys already; revoke some first")
        return ApiKey(id=key_id, user_id=user_id, name=name, prefix=prefix, created_us=int(created), used_us=0)

    async def use(self, digest: str) -> ApiKey | None:
        """The key, which is being used now; None if there is none."""
        with translated_errors():
            record = await self._scripts.run("use_api_key", digest, USED_EVERY_S * 1_000_000)
        return _key(dict(zip(record[::2], record[1::2], strict=True))) if record else None

    async def has(self, user_id: str, key_id: str) -> bool:
        """Whether the user has this key. That is no use of it."""
        with translated_errors():
            return bool(await self._client.hexists(self._keys.api_keys(user_id), key_id))

    async def of_user(self, user_id: str) -> list[ApiKey]:
        """A user's keys, newest first."""
        with translated_errors():
            digests = [text(digest) for digest in await self._client.hvals(self._keys.api_keys(user_id))]
            pipe = self._client.pipeline(transaction=False)
            for digest in digests:
                pipe.hgetall(self._keys.api_key(digest))
            records = await pipe.execute() if digests else []
        return sorted((_key(record) for record in records if record), key=lambda key: key.created_us, reverse=True)

    async def revoke(self, user_id: str, key_id: str) -> str | None:
        """Remove a user's key. Its digest, or None if the user has no such key."""
        with translated_errors():
            digest = await self._scripts.run("revoke_api_key", user_id, key_id)
        return None if digest is None else text(digest)


def _key(record: Mapping[bytes, bytes]) -> ApiKey:
    return ApiKey(
        id=text(record[b"id"]),
        user_id=text(record[b"user"]),
        name=text(record[b"name"]),
        prefix=text(record[b"prefix"]),
        created_us=int(record[b"created"]),
        used_us=int(record.get(b"used", 0)),
    )
