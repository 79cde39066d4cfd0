"""Tokens of an earlier generation, and how often a replica looks."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from deployments.ingress.revocations import Revocations
from deployments.ingress.tokens import Claims
from pipeline.errors import StoreUnavailable, Unauthorized
from tests.unit.accounts_in_memory import MemoryAccounts, memory_accounts


def claims(user_id: str, generation: int) -> Claims:
    return Claims(
        user_id=user_id,
        slug="s",
        roles=(),
        app_id="a",
        device="",
        token_id="t",
        expires_at=2_000_000_000,
        generation=generation,
    )


class Counted(MemoryAccounts):
    """Counts the looks; fails them while it is away."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0
        self.is_away = False

    async def token_generation(self, user_id: str) -> int | None:
        self.looks += 1
        await asyncio.sleep(0)
        if self.is_away:
            raise RedisConnectionError
        return await super().token_generation(user_id)


@pytest.fixture
async def store() -> Counted:
    store = Counted()
    for slug in ("ann", "bob"):
        draft = await memory_accounts().draft(slug=slug, password="x" * 8, name="", roles=())
        store.accounts[slug] = draft
    return store


async def test_a_token_of_an_earlier_generation_is_refused(store: Counted):
    revocations = Revocations(store, max_age_s=0)
    await revocations.check(claims("ann", 0))
    await store.revoke_tokens("ann")
    with pytest.raises(Unauthorized):
        await revocations.check(claims("ann", 0))
    await revocations.check(claims("ann", 1))
    await revocations.check(claims("bob", 0))
    # A store that was put back to an earlier state does not lock everybody out.
    await revocations.check(claims("ann", 2))


async def test_an_account_that_is_gone_has_no_tokens(store: Counted):
    with pytest.raises(Unauthorized):
        await Revocations(store).check(claims("nobody", 0))


async def test_many_requests_are_one_look_until_something_changes_here(store: Counted):
    revocations = Revocations(store, max_age_s=3600)
    await asyncio.gather(*(revocations.check(claims("ann", 0)) for _ in range(50)))
    await revocations.check(claims("ann", 0))
    assert store.looks == 1
    await store.revoke_tokens("ann")
    await revocations.check(claims("ann", 0))
    revocations.forget("ann")
    with pytest.raises(Unauthorized):
        await revocations.check(claims("ann", 0))
    assert store.looks == 2


async def test_only_so_many_accounts_are_remembered_those_used_last(store: Counted):
    revocations = Revocations(store, max_age_s=3600, most=2)
    store.accounts["eve"] = store.accounts["bob"]
    for user_id in ("ann", "bob", "ann", "eve", "ann"):
        await revocations.check(claims(user_id, 0))
    assert store.looks == 3
    await revocations.check(claims("bob", 0))
    assert store.looks == 4


async def test_without_a_store_it_cannot_be_told(store: Counted):
    store.is_away = True
    revocations = Revocations(store, max_age_s=3600)
    with pytest.raises(StoreUnavailable):
        await revocations.check(claims("ann", 0))
    store.is_away = False
    await revocations.check(claims("ann", 0))
