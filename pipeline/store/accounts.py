"""Accounts in the store."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis

from pipeline.accounts import Account, AccountPage
from pipeline.store.account_keys import AccountKeys
from pipeline.store.replies import text
from pipeline.store.scripts import Scripts


class RedisAccounts:
    """``AccountStore`` on a Redis-protocol server; works with and without ``decode_responses``."""

    def __init__(self, client: Redis, keys: AccountKeys) -> None:
        self._client = client
        self._keys = keys
        self._scripts = Scripts(client, keys.namespace)
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
        keys = [self._keys.slug(account.slug), self._keys.user(account.id), self._keys.everybody()]
        return bool(await self._create(keys=keys, args=[account.id, _us(account.created_at), *flat]))

    async def by_slug(self, slug: str) -> Account | None:
        user_id = await self._client.get(self._keys.slug(slug))
        return None if user_id is None else await self.by_id(text(user_id))

    async def by_id(self, user_id: str) -> Account | None:
        record = await self._client.hgetall(self._keys.user(user_id))
        return _account(record) if record else None

    async def many(self, user_ids: Sequence[str]) -> list[Account]:
        pipe = self._client.pipeline(transaction=False)
        for user_id in user_ids:
            pipe.hgetall(self._keys.user(user_id))
        return [_account(record) for record in await pipe.execute() if record]

    async def page(self, *, descending: bool, after_us: int | None, limit: int) -> AccountPage:
        behind = ("+inf" if descending else "-inf") if after_us is None else f"({after_us}"
        # The client's type of it tells nothing of ``withscores``.
        entries: Any = await self._client.zrange(
            self._keys.everybody(),
            behind,
            "-inf" if descending else "+inf",
            desc=descending,
            byscore=True,
            withscores=True,
            offset=0,
            num=limit + 1,
        )
        shown = entries[:limit]
        after = int(shown[-1][1]) if len(entries) > limit else None
        return AccountPage(accounts=await self.many([text(user_id) for user_id, _ in shown]), after_us=after)

    async def count(self) -> int:
        return int(await self._client.zcard(self._keys.everybody()))

    async def remove(self, account: Account) -> None:
        await self._client.delete(self._keys.slug(account.slug), self._keys.user(account.id))

    async def replace_password(self, account: Account, password_hash: str, now: float) -> bool:
        arguments = [account.password_hash, password_hash, repr(now)]
        return bool(await self._replace_password(keys=[self._keys.user(account.id)], args=arguments))

    async def token_generation(self, user_id: str) -> int | None:
        known, generation = await self._client.hmget(self._keys.user(user_id), ["id", "tokens"])
        return None if known is None else int(generation or 0)

    async def revoke_tokens(self, user_id: str) -> bool:
        return bool(await self._scripts.run("revoke_tokens", user_id))

    async def count_attempt(self, slug: str, address: str, window_s: int) -> tuple[int, float]:
        key = self._keys.login_attempts(slug, address)
        count, left_ms = await self._count_attempt(keys=[key], args=[window_s * 1000])
        return int(count), max(int(left_ms), 1) / 1000

    async def note_login(self, account: Account, address: str) -> None:
        pipe = self._client.pipeline(transaction=False)
        pipe.delete(self._keys.login_attempts(account.slug, address))
        pipe.zadd(self._keys.everybody(), {account.id: _us(account.created_at)}, nx=True)
        await pipe.execute()


def _account(record: Mapping[Any, Any]) -> Account:
    fields = {text(name): text(value) for name, value in record.items()}
    return Account(
        id=fields["id"],
        slug=fields["slug"],
        name=fields["name"],
        password_hash=fields["password_hash"],
        roles=tuple(json.loads(fields["roles"])),
        enrolled=tuple((role, app_id) for role, app_id in json.loads(fields.get("enrolled", "[]"))),
        token_generation=int(fields.get("tokens", 0)),
        created_at=float(fields["created_at"]),
        updated_at=float(fields["updated_at"]),
    )


def _us(seconds: float) -> int:
    return round(seconds * 1_000_000)
