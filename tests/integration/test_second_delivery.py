"""Serve may deliver one grant twice, also to two replicas, and late: the store lets one of them have it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from pipeline.delta import Delta, DeltaKind, FinishReason
from pipeline.errors import StaleLease
from pipeline.prompt import NewPrompt
from pipeline.states import Status
from pipeline.store.attempts import AttemptStore, Claimed
from pipeline.store.keys import Keys
from pipeline.store.prompts import PromptStore
from pipeline.store.queue import Grant, ModelQueue

LONG_S = 1000.0


class World:
    """One prompt of a model with two replicas."""

    def __init__(self, client: Redis) -> None:
        keys = Keys("ps")
        self.client, self.keys = client, keys
        self.prompts = PromptStore(client, keys)
        self.queue = ModelQueue(client, keys, "m")
        self.attempts = AttemptStore(client, keys)

    async def grant(self) -> Grant:
        for replica in ("one", "two"):
            await self.attempts.register("m", replica, permits=1, node="n", lease_s=LONG_S)
        new = NewPrompt(id="p", user_id="u", thread_id="t", model_id="m", prompt="x", prompt_token_ids=(1,))
        await self.prompts.accept(new)
        (grant,) = await self.queue.grant(1, LONG_S)
        return grant

    async def claim(self, grant: Grant, replica: str) -> Claimed:
        return await self.attempts.claim(grant.ref, grant.fence, replica=replica, lease_s=LONG_S, fingerprint="f")

    async def status(self) -> Status:
        prompt = await self.prompts.get("u", "p")
        assert prompt is not None
        return prompt.status

    async def deadline(self, grant: Grant) -> float | None:
        return await self.client.zscore(self.keys.leases("m"), grant.ref)  # type: ignore[no-any-return]


@pytest.fixture
async def world(redis_url: str) -> AsyncIterator[World]:
    client = Redis.from_url(redis_url)
    yield World(client)
    await client.aclose()


async def test_another_replica_can_neither_claim_it_nor_hand_it_back_nor_keep_it(world: World) -> None:
    grant = await world.grant()
    await world.claim(grant, "one")
    deadline = await world.deadline(grant)
    with pytest.raises(StaleLease):
        await world.claim(grant, "two")
    assert not await world.attempts.hand_back(grant.ref, grant.fence, replica="two")
    assert not await world.attempts.keep(grant.ref, grant.fence, lease_s=2 * LONG_S)
    assert await world.deadline(grant) == deadline
    _, gone = await world.attempts.heartbeat("m", "one", [(grant.ref, grant.fence)], lease_s=LONG_S)
    assert gone == []
    assert await world.attempts.hand_back(grant.ref, grant.fence, replica="one")
    assert await world.status() is Status.SCHEDULED


async def test_what_nobody_has_claimed_any_replica_may_hand_back(world: World) -> None:
    grant = await world.grant()
    assert await world.attempts.keep(grant.ref, grant.fence, lease_s=LONG_S)
    assert await world.attempts.hand_back(grant.ref, grant.fence, replica="two")
    assert await world.status() is Status.SCHEDULED


@pytest.mark.parametrize("end", ["finished", "failed", "handed back", "granted again"])
@pytest.mark.parametrize("replica", ["one", "two"])
async def test_an_attempt_that_is_over_is_not_begun_again(world: World, end: str, replica: str) -> None:
    grant = await world.grant()
    await world.claim(grant, "one")
    last = Delta(kind=DeltaKind.END, finish_reason=FinishReason.STOP)
    if end == "finished":
        assert await world.attempts.finish(grant.ref, grant.fence, message_id="a", text="", meta_json="{}", end=last)
    elif end == "failed":
        assert await world.attempts.retry_later(grant.ref, grant.fence, error="x", delay_s=LONG_S)
    else:
        assert await world.attempts.hand_back(grant.ref, grant.fence, replica="one")
    if end == "granted again":
        (again,) = await world.queue.grant(1, LONG_S)
        assert again.ref == grant.ref
    status = await world.status()
    with pytest.raises(StaleLease):
        await world.claim(grant, replica)
    assert not await world.attempts.hand_back(grant.ref, grant.fence, replica=replica)
    assert await world.status() is status
