"""A store that was wiped is refused; so is one that would forget."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis
from redis.asyncio import Redis

from deployments.local import store_identity
from deployments.local.environment import CannotStart
from pipeline.errors import StoreRefused, StoreUnavailable
from pipeline.store.connection import connect_impatient, verify_store
from pipeline.store.keys import Keys


async def test_a_fresh_store_gets_an_identity_and_keeps_it(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as client:
        first = await verify_store(client, Keys("ps"))
        assert await verify_store(client, Keys("ps"), first) == first


async def test_a_wiped_or_foreign_store_is_refused(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as client:
        with pytest.raises(StoreRefused, match="wiped"):
            await verify_store(client, Keys("ps"), "0123456789abcdef")
        identity = await verify_store(client, Keys("ps"))
        with pytest.raises(StoreRefused, match=identity):
            await verify_store(client, Keys("ps"), "0123456789abcdef")


async def test_a_store_that_holds_prompts_but_no_identity_is_refused(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as client:
        await client.incr(Keys("ps").seq())
        with pytest.raises(StoreRefused, match="identity key is gone"):
            await verify_store(client, Keys("ps"))


@pytest.mark.parametrize(
    ("setting", "value", "good"),
    [
        ("appendonly", "no", "yes"),
        ("maxmemory-policy", "allkeys-lru", "noeviction"),
        ("no-appendfsync-on-rewrite", "yes", "no"),
    ],
)
async def test_a_forgetful_store_is_refused(redis_url: str, setting: str, value: str, good: str) -> None:
    async with Redis.from_url(redis_url) as client:
        await client.config_set(setting, value)
        try:
            with pytest.raises(StoreRefused, match=setting):
                await verify_store(client, Keys("ps"))
        finally:
            await client.config_set(setting, good)


async def test_a_store_that_is_away_is_said_to_be_away_within_two_seconds() -> None:
    async with connect_impatient("redis://127.0.0.1:1/0") as client:
        with pytest.raises(StoreUnavailable):
            await verify_store(client, Keys("ps"))


def test_the_launcher_notices_that_its_store_was_wiped(redis_url: str, tmp_path: Path) -> None:
    with redis.Redis.from_url(redis_url) as client:
        store_identity.check(client, "ps", tmp_path)
        store_identity.remember(client, "ps", tmp_path)
        assert not (tmp_path / store_identity.FILE).exists()
        client.hset(Keys("ps").identity(), "id", "abc")
        store_identity.remember(client, "ps", tmp_path)
        store_identity.check(client, "ps", tmp_path)
        client.flushdb()
        with pytest.raises(CannotStart, match="store-id"):
            store_identity.check(client, "ps", tmp_path)
