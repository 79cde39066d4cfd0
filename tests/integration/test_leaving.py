"""A replica that Serve stops, on a real store: what is given out for it, and what it and the others hear."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from redis.asyncio import Redis

from deployments.replica.heartbeat import Heartbeat
from pipeline.store.attempts import AttemptStore, Standing
from pipeline.store.bells import listen
from pipeline.store.keys import Keys
from pipeline.store.queue import ModelQueue
from tests.integration.test_turns import LONG_S, MODEL, Queue
from tests.waiting import until_true


@dataclass
class Store:
    url: str
    client: Redis
    keys: Keys
    queue: ModelQueue
    attempts: AttemptStore
    prompts: Queue

    async def register(self, *replicas: str, permits: int = 4) -> None:
        for replica in replicas:
            await self.attempts.register(MODEL, replica, permits=permits, node="n1", lease_s=LONG_S)

    async def miss(self, replica: str) -> None:
        """It has not been heard for a lease: the sweep drops it."""

        async def is_dropped() -> bool:
            assert await self.client.zadd(self.keys.replicas(MODEL), {replica: 1}, xx=True, ch=True) == 1
            # A beat that was on its way may be between the two.
            return (await self.queue.sweep(["n1"])).replicas_dropped == 1

        await until_true(is_dropped, what=f"the end of {replica}")

    async def beat(self, replica: str, used: int = 0) -> Standing:
        return (await self.attempts.heartbeat(MODEL, replica, [], lease_s=LONG_S, permits_used=used))[0]


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    client = Redis.from_url(redis_url)
    prompts = Queue(client)
    keys = Keys(prompts.prompts._keys.namespace)
    yield Store(redis_url, client, keys, ModelQueue(client, keys, MODEL), AttemptStore(client, keys), prompts)
    await client.aclose()


async def test_one_that_ran_and_is_gone_from_the_list_leaves(store: Store) -> None:
    await store.register("r1", "r2")
    assert await store.queue.follow(["r1", "r2"]) == 0
    assert await store.beat("r1") is Standing.SERVING
    assert await store.queue.follow(["r2"]) == 1
    assert await store.beat("r1") is Standing.LEAVING
    assert await store.beat("r2") is Standing.SERVING
    assert (await store.queue.depth()).permits == 4


async def test_one_that_has_not_run_yet_is_starting(store: Store) -> None:
    await store.register("r1", "new")
    assert await store.queue.follow(["r1"]) == 0
    assert await store.beat("new") is Standing.SERVING
    assert (await store.queue.depth()).permits == 8


async def test_what_it_still_runs_takes_no_permit_of_the_others(store: Store) -> None:
    await store.register("r1", "r2")
    await store.queue.follow(["r1", "r2"])
    await store.prompts.accept_many("ann", 10)
    granted = await store.queue.grant(3, LONG_S)
    await store.beat("r1", used=3)
    await store.queue.follow(["r2"])
    assert (await store.queue.depth()).permits == 4 + 3
    assert len(await store.queue.grant(64, LONG_S)) == 4
    # Its attempts end one after the other, and with each the permit of it is gone.
    await store.prompts.finish(granted[0])
    await store.beat("r1", used=2)
    assert await store.queue.grant(64, LONG_S) == []


async def test_it_is_told_by_its_doorbell_and_once(store: Store) -> None:
    await store.register("r1")
    heard: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def hear() -> None:
        async for ring in listen(store.client, [store.keys.doorbell("r1")]):
            heard.put_nowait(ring and ring[1])

    hearing = asyncio.create_task(hear())
    assert await asyncio.wait_for(heard.get(), 10) is None
    for running in (["r1"], [], [], ["r1"], ["r1"], []):
        await store.queue.follow(running)
    assert [await asyncio.wait_for(heard.get(), 10) for _ in range(3)] == [b"leave", b"stay", b"leave"]
    assert heard.empty()
    hearing.cancel()
    await asyncio.gather(hearing, return_exceptions=True)


@dataclass
class Owner:
    """What a replica is to its heartbeat."""

    offered: int = 4
    used: int = 1
    standings: list[Standing] = field(default_factory=list)


def heartbeat_of(owner: Owner, store: Store) -> Heartbeat:
    def heard(standing: Standing) -> None:
        owner.standings.append(standing)
        owner.offered = owner.used if standing is Standing.LEAVING else 4
        heartbeat.beat()

    heartbeat = Heartbeat(
        redis_url=store.url,
        keys=store.keys,
        model_id=MODEL,
        replica="r1",
        node="n1",
        lease_s=LONG_S,
        interval_s=LONG_S,
        leases=list,
        permits_offered=lambda: owner.offered,
        permits_used=lambda: owner.used,
        on_lost=lambda ref, fence: None,
        on_standing=heard,
    )
    return heartbeat


async def test_a_heartbeat_tells_its_replica_and_offers_what_that_says(store: Store) -> None:
    owner = Owner()
    heartbeat = heartbeat_of(owner, store)

    async def permits(number: int) -> None:
        async def are_so() -> bool:
            return (await store.queue.depth()).permits == number

        await until_true(are_so, what=f"{number} permits")

    await heartbeat.start()
    try:
        await permits(4)
        await store.queue.follow(["r1"])
        await store.queue.follow([])
        heartbeat.beat()  # the doorbell
        await permits(1)
        owner.used = 0
        heartbeat.beat()
        await permits(0)
        await store.queue.follow(["r1"])
        heartbeat.beat()
        await permits(4)
        assert owner.standings == [Standing.LEAVING, Standing.SERVING]
    finally:
        await heartbeat.stop()
    depth = await store.queue.depth()
    assert (depth.permits, depth.replicas) == (0, 0)
    assert await store.client.exists(store.keys.serving(MODEL)) == 0


async def test_a_store_that_forgot_a_leaving_replica_is_told_what_it_holds(store: Store) -> None:
    """It registers anew, with what it offers; Serve's word is gone with the rest."""
    await store.register("r1")
    await store.queue.follow(["r1"])
    await store.queue.follow([])
    await store.attempts.unregister(MODEL, "r1")
    assert await store.beat("r1") is Standing.UNKNOWN
    await store.register("r1", permits=2)
    assert (await store.queue.depth()).permits == 2


async def test_one_that_was_missed_and_is_back_is_told_when_it_is_stopped(store: Store) -> None:
    await store.register("r1", "r2")
    await store.queue.follow(["r1", "r2"])
    await store.miss("r1")
    await store.register("r1")
    assert await store.queue.follow(["r2"]) == 1
    assert await store.beat("r1") is Standing.LEAVING
    assert (await store.queue.depth()).permits == 4


async def test_one_that_is_stopped_while_it_is_missed_is_told_when_it_is_back(store: Store) -> None:
    await store.register("r1", "r2")
    await store.queue.follow(["r1", "r2"])
    await store.miss("r1")
    for _ in range(2):  # both routers
        await store.queue.follow(["r2"])
    await store.register("r1")
    assert (await store.queue.depth()).permits == 4
    assert await store.beat("r1", used=1) is Standing.LEAVING
    assert (await store.queue.depth()).permits == 4 + 1


async def test_one_that_is_stopped_while_it_is_missed_may_stay_after_all(store: Store) -> None:
    await store.register("r1")
    for running in (["r1"], [], ["r1"]):
        await store.queue.follow(running)
        if running:
            await store.miss("r1")
            await store.queue.follow([])
            await store.queue.follow(["r1"])
            await store.register("r1")
            assert await store.beat("r1") is Standing.SERVING


async def test_nothing_is_left_of_replicas_that_never_come_back(store: Store) -> None:
    await store.register("r1", "r2", "r3")
    await store.queue.follow(["r1", "r2", "r3"])
    await store.miss("r1")
    await store.queue.follow(["r3"])  # r2 leaves, and is missed then
    await store.miss("r2")
    await store.queue.follow(["r3"])
    assert await store.client.hkeys(store.keys.serving(MODEL)) == [b"r3"]
    for replica in ("r1", "r2"):
        assert await store.client.ttl(store.keys.stopped(replica)) > 0
    await store.attempts.unregister(MODEL, "r1")
    assert await store.client.exists(store.keys.stopped("r1")) == 0


async def test_one_that_drains_and_is_missed_goes_on_draining(store: Store) -> None:
    owner = Owner()
    heartbeat = heartbeat_of(owner, store)

    async def is_registered() -> bool:
        heartbeat.beat()
        depth = await store.queue.depth()
        return (depth.replicas, depth.permits) == (1, owner.used)

    async def has_heard() -> bool:
        return bool(owner.standings)

    await heartbeat.start()
    try:
        await store.queue.follow(["r1"])
        await store.queue.follow([])
        heartbeat.beat()
        await until_true(has_heard, what="a standing")
        await until_true(is_registered, what="what it holds")
        await store.miss("r1")
        await until_true(is_registered, what="a replica that registers again")
        assert owner.standings == [Standing.LEAVING]
    finally:
        await heartbeat.stop()
