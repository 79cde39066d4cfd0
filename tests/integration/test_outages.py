"""A store that was away, or whose clock was set: nobody could renew a lease, and nobody is charged for it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from pipeline.prompt import NewPrompt
from pipeline.states import Status
from pipeline.store.attempts import Standing
from pipeline.store.queue import Grant, Swept
from pipeline.store.sweeper import Sweeper
from tests.integration.queue_store import LONG_S, QueueStore

MODEL = "m"
REF = "ann/p"
LEASE_S = 10.0
SECOND_US = 1_000_000


class Store(QueueStore):
    async def running(self) -> Grant:
        """A prompt that r1, on node n1, has claimed."""
        await self.attempts.register(MODEL, "r1", permits=4, node="n1", lease_s=LEASE_S)
        await self.prompts.accept(
            NewPrompt(id="p", user_id="ann", thread_id="t", model_id=MODEL, prompt="hi", prompt_token_ids=(1,))
        )
        (grant,) = await self.queue.grant(1, LEASE_S)
        await self.attempts.claim(grant.ref, grant.fence, replica="r1", lease_s=LEASE_S, fingerprint="f")
        return grant

    async def deadlines_are_in(self, seconds: float) -> None:
        now = await self.now_us()
        for key, member in ((self.keys.leases(MODEL), REF), (self.keys.replicas(MODEL), "r1")):
            assert await self.client.zadd(key, {member: now + seconds * SECOND_US}, xx=True, ch=True) == 1

    async def deadlines(self) -> list[float]:
        """Seconds from now: of the lease, of the replica."""
        now = await self.now_us()
        scores = [
            await self.client.zscore(self.keys.leases(MODEL), REF),
            await self.client.zscore(self.keys.replicas(MODEL), "r1"),
        ]
        return [(score - now) / SECOND_US for score in scores if score is not None]

    async def now_us(self) -> int:
        seconds, micros = await self.client.time()
        return int(seconds) * SECOND_US + int(micros)

    async def sweep(self, *nodes: str, before_s: float) -> Swept:
        """As a ledger does whose sweep before was so long ago."""
        before_us = await self.now_us() - round(before_s * SECOND_US)
        return await self.queue.sweep(nodes, before_us=before_us, patience_s=4, grace_s=LEASE_S)

    async def state(self) -> tuple[Status, int]:
        prompt = await self.prompts.get("ann", "p")
        return prompt.status, prompt.crashes


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    client = Redis.from_url(redis_url)
    yield Store.on(client, MODEL)
    await client.aclose()


async def test_a_replica_that_could_not_be_heard_is_given_a_lease(store: Store) -> None:
    grant = await store.running()
    await store.deadlines_are_in(-1)
    swept = await store.sweep("n1", before_s=60)
    assert (swept.was_away, swept.lost, swept.replicas_dropped) == (True, 0, 0)
    assert await store.state() == (Status.RUNNING, 0)
    assert (await store.queue.depth()).permits == 4
    assert await store.attempts.heartbeat(MODEL, "r1", [(grant.ref, grant.fence)], lease_s=LEASE_S) == (
        Standing.SERVING,
        [],
    )


async def test_one_that_stays_silent_is_dead_a_lease_later(store: Store) -> None:
    await store.running()
    await store.deadlines_are_in(-1)
    await store.sweep("n1", before_s=60)
    assert all(0 < left <= LEASE_S for left in await store.deadlines())
    await store.deadlines_are_in(-1)  # that lease is over, too
    swept = await store.sweep("n1", before_s=1)
    assert (swept.was_away, swept.lost, swept.replicas_dropped) == (False, 1, 1)
    assert await store.state() == (Status.SCHEDULED, 1)


async def test_a_lease_that_has_not_run_out_yet_would_before_the_next_heartbeat(store: Store) -> None:
    await store.running()
    await store.deadlines_are_in(0.5)
    await store.sweep("n1", before_s=9)
    assert all(1 < left <= LEASE_S for left in await store.deadlines())


async def test_a_replica_whose_node_is_gone_is_not_waited_for(store: Store) -> None:
    await store.running()
    await store.deadlines_are_in(-1)
    swept = await store.sweep("n2", before_s=60)
    assert (swept.was_away, swept.lost, swept.replicas_dropped) == (True, 1, 1)
    assert await store.state() == (Status.SCHEDULED, 0)


async def test_what_nobody_had_claimed_goes_back_at_once(store: Store) -> None:
    grant = await store.running()
    await store.queue.hand_back(grant.ref, grant.fence)
    await store.queue.grant(1, LEASE_S)
    await store.deadlines_are_in(-1)
    assert (await store.sweep("n1", before_s=60)).handed_back == 1


async def test_a_clock_that_is_set_back_does_not_keep_a_dead_replica_for_as_long(store: Store) -> None:
    await store.running()
    await store.deadlines_are_in(3600)
    assert (await store.sweep("n1", before_s=-3590)).was_away
    assert all(left <= LEASE_S for left in await store.deadlines())


async def test_a_new_ledger_gives_a_lease_once(store: Store) -> None:
    """The first one of all: nobody knows since when the store has been there."""
    await store.running()
    sweeper = Sweeper(store.queue, sweep_s=LONG_S, heartbeat_s=LONG_S, lease_s=LEASE_S)
    await store.deadlines_are_in(-1)
    assert (await sweeper.sweep(["n1"])).was_away
    assert await store.state() == (Status.RUNNING, 0)
    await store.deadlines_are_in(-1)
    swept = await sweeper.sweep(["n1"])
    assert (swept.was_away, swept.lost) == (False, 1)
    assert await store.state() == (Status.SCHEDULED, 1)


async def test_a_new_ledger_goes_by_the_sweep_of_the_one_before_it(store: Store) -> None:
    """However often the ledger dies, who is dead is found out."""
    await store.running()
    await Sweeper(store.queue, sweep_s=LONG_S, heartbeat_s=LONG_S, lease_s=LEASE_S).sweep(["n1"])
    await store.deadlines_are_in(-1)
    swept = await Sweeper(store.queue, sweep_s=LONG_S, heartbeat_s=LONG_S, lease_s=LEASE_S).sweep(["n1"])
    assert (swept.was_away, swept.lost) == (False, 1)


async def test_a_ledger_that_swept_too_long_ago_knows_it(store: Store) -> None:
    await store.running()
    sweeper = Sweeper(store.queue, sweep_s=0, heartbeat_s=0, lease_s=LEASE_S)
    await sweeper.sweep(["n1"])
    await store.deadlines_are_in(-1)
    assert (await sweeper.sweep(["n1"])).was_away
    assert await store.state() == (Status.RUNNING, 0)


async def test_a_replica_the_router_misses_is_not_waited_for(store: Store) -> None:
    """Its death was seen, whatever the store has slept through."""
    grant = await store.running()
    assert await store.queue.lose(grant.ref, grant.fence, ["n1"])
    assert await store.state() == (Status.SCHEDULED, 1)
    assert (await store.queue.depth()).replicas == 0
