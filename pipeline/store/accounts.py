"""Accounts in the store."""

from __future__ import annotations

import json
from importlib.resources import files

from redis.asyncio import Redis

from pipeline.accounts import Account
from pipeline.store.account_keys import AccountKeys
from pipeline.store.replies import text


class RedisAccounts:
    """``AccountStore`` on a Redis-protocol server; works with and without ``decode_responses``."""

    def __init__(self, client: Redis, keys: AccountKeys) -> None:
        self._client = client
        self._keys = keys
        folder = files("pipeline.store") / "lua"
        self._create = client.register_script((folder / "create_user.lua").read_text())
        self._replace_password = client.register_script((folder / "replace_password.lua").read_text())
        self._count_attempt = client.register_script((folder / "count_attempt.lua").read_text())

    async def create(self, account: Account) -> bool:
        record = {
            "id": account.id,
            "slug": account.slug,
            "name": account.name,
            "password_hash": account.password_hash,
            "roles": json.dumps(account.roles),
            "created_at": repr(account.created_at),
            "updated_at": repr(account.updated_at),
        }
        flat = [part for item in record.items() for part in item]
        keys = [self._keys.slug(account.slug), self._keys.user(account.id)]
        return bool(await self._create(keys=keys, args=[account.id, *flat]))

    async def by_slug(self, slug: str) -> Account | None:
        user_id = await self._client.get(self._keys.slug(slug))
        return None if user_id is None else await self.by_id(text(user_id))

    async def by_id(self, user_id: str) -> Account | None:
        record = await self._client.hgetall(self._keys.user(user_id))
        if not record:
            return None
        fields = {text(name): text(value) for name, value in record.items()}
        return Account(
            id=fields["id"],
            slug=fields["slug"],
            name=fields["name"],
            password_hash=fields["password_hash"],
            roles=tuple(json.loads(fields["roles"])),
            created_at=float(fields["created_at"]),
            updated_at=float(fields["updated_at"]),
        )

    async def remove(self, account: Account) -> None:
        await self._client.delete(self._keys.slug(account.slug), self._keys.user(account.id))

    async def replace_password(self, account: Account, password_hash: str, now: float) -> bool:
        arguments = [account.password_hash, password_hash, repr(now)]
        return bool(await self._replace_password(keys=[self._keys.user(account.id)], args=arguments))

    async def count_attempt(self, slug: str, address: str, window_s: int) -> tuple[int, float]:
        key = self._keys.login_attempts(slug, address)
        count, left_ms = await self._count_attempt(keys=[key], args=[window_s * 1000])
        return int(count), max(int(left_ms), 1) / 1000

    async def forget_attempts(self, slug: str, address: str) -> None:
        await self._client.delete(self._keys.login_attempts(slug, address))
