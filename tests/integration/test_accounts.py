"""Accounts on a real Valkey."""

import asyncio
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from pipeline.accounts import ADMIN_SLUG, FAILURE_WINDOW_S, MAX_FAILURES, Accounts, SlugTaken, WrongPassword
from pipeline.admin import ensure_admin
from pipeline.errors import TooManyRequests
from pipeline.passwords import Passwords
from pipeline.store.account_keys import AccountKeys
from pipeline.store.accounts import RedisAccounts

CANARY = "canary-pass-word"


@pytest.fixture(params=[False, True], ids=["bytes", "decoded"])
async def client(redis_url: str, request: pytest.FixtureRequest):
    client = Redis.from_url(redis_url, decode_responses=request.param)
    yield client
    await client.aclose()


def accounts_on(client: Redis) -> Accounts:
    hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    return Accounts(RedisAccounts(client, AccountKeys("ps")), Passwords(hasher, parallel=4))


@pytest.fixture
def accounts(client: Redis) -> Accounts:
    return accounts_on(client)


async def test_an_account_comes_back_as_it_was(accounts: Accounts, client: Redis):
    registered = await accounts.register(slug="alice", password=CANARY, name="Älice 😀")
    assert await accounts.by_id(registered.id) == registered
    assert await accounts.store.by_slug("alice") == registered
    assert await accounts.login(slug="alice", password=CANARY, address="::1") == registered
    assert await accounts.by_id("usr-unknown") is None
    assert await accounts.store.by_slug("bob") is None


async def test_one_of_many_gets_a_slug(accounts: Accounts, client: Redis):
    rivals = [accounts, accounts_on(client)]
    drafts = [await rivals[i % 2].draft(slug="alice", password=CANARY, name=str(i), roles=()) for i in range(8)]
    created = await asyncio.gather(*(rivals[i % 2].store.create(draft) for i, draft in enumerate(drafts)))
    assert created.count(True) == 1
    winner = await accounts.store.by_slug("alice")
    assert winner == drafts[created.index(True)]
    assert len(await client.keys("ps:user:*")) == 1
    with pytest.raises(SlugTaken):
        await accounts.register(slug="alice", password=CANARY)


async def test_two_replicas_that_start_together_have_one_admin(accounts: Accounts, client: Redis):
    replicas = [accounts, accounts_on(client)]
    admins = await asyncio.gather(*(ensure_admin(one, CANARY, bound_to_loopback=False) for one in replicas))
    assert admins[0].id == admins[1].id
    assert await accounts.login(slug=ADMIN_SLUG, password=CANARY, address="")
    assert len(await client.keys("ps:user:*")) == 1


async def test_the_documented_password_is_replaced_once(accounts: Accounts):
    before = await ensure_admin(accounts, "", bound_to_loopback=True)
    after = await ensure_admin(accounts, CANARY, bound_to_loopback=False)
    assert after.id == before.id
    assert after.updated_at > before.updated_at
    assert not await accounts.store.replace_password(before, "stale", 1.0)
    assert await accounts.store.by_id(before.id) == after


async def test_failed_logins_are_counted_across_replicas_and_forgotten(accounts: Accounts, client: Redis):
    await accounts.register(slug="alice", password=CANARY)
    replicas = [accounts, accounts_on(client)]
    guesses = (replicas[i % 2].login(slug="alice", password="wrong", address="::1") for i in range(MAX_FAILURES + 8))
    outcomes = [type(outcome) for outcome in await asyncio.gather(*guesses, return_exceptions=True)]
    assert outcomes.count(WrongPassword) == MAX_FAILURES
    assert outcomes.count(TooManyRequests) == 8
    with pytest.raises(TooManyRequests) as refused:
        await accounts.login(slug="alice", password=CANARY, address="::1")
    assert 0 < (refused.value.retry_after_s or 0) <= FAILURE_WINDOW_S
    await client.pexpire(AccountKeys("ps").login_attempts("alice", "::1"), 0)
    assert await accounts.login(slug="alice", password=CANARY, address="::1")


async def test_no_key_carries_a_password_or_an_unknown_slug(accounts: Accounts, client: Redis):
    await accounts.register(slug="alice", password=CANARY)
    with pytest.raises(WrongPassword):
        await accounts.login(slug="typed-my-" + CANARY, password="x", address="::1")
    for key in await client.keys("*"):
        assert CANARY not in str(key)
        assert str(key).lstrip("b'").startswith("ps:")


async def test_a_store_that_is_away_is_said_to_be(tmp_path: Path):
    client = Redis(unix_socket_path=str(tmp_path / "none.sock"), retry=Retry(NoBackoff(), 0))
    with pytest.raises(RedisConnectionError):
        await accounts_on(client).login(slug="alice", password=CANARY, address="")
    await client.aclose()
