"""A prompt that must run alone, on a real store: nothing more is given out for its replica than what that has already."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from deployments.replica.attempts import Outcome
from deployments.replica.heartbeat import Heartbeat
from deployments.tasks import Supervisor
from pipeline.delta import Delta, DeltaKind, FinishReason
from pipeline.store.attempts import AttemptStore
from pipeline.store.keys import Keys
from pipeline.store.queue import Grant, ModelQueue
from tests.integration.queue_store import text_runner
from tests.integration.test_turns import LONG_S, MODEL, Queue
from tests.unit.replicas import HandDriven, within
from tests.waiting import until, until_true

END = Delta(kind=DeltaKind.END, finish_reason=FinishReason.STOP)


class World:
    def __init__(self, client: Redis, url: str, supervisor: Supervisor) -> None:
        self.prompts = Queue(client)
        keys = Keys(self.prompts.prompts._keys.namespace)
        self.queue = ModelQueue(client, keys, MODEL)
        self.engine = HandDriven()
        store = AttemptStore(client, keys)
        self.runner = text_runner(
            store, self.engine, supervisor, model_id=MODEL, on_offer=lambda: self.heartbeat.beat()
        )
        # Within a test it beats when it is told to.
        self.heartbeat = Heartbeat(
            redis_url=url,
            keys=keys,
            model_id=MODEL,
            replica="r1",
            node="n1",
            lease_s=LONG_S,
            interval_s=LONG_S,
            leases=self.runner.leases,
            permits_offered=lambda: self.runner.permits.offered,
            permits_used=lambda: self.runner.permits_used,
            on_lost=self.runner.lose,
            on_standing=lambda standing: None,
        )

    async def grant(self) -> Grant:
        await self.prompts.accept("ann")
        (grant,) = await self.queue.grant(1, LONG_S)
        return grant

    async def offers(self, permits: int) -> None:
        async def are_so() -> bool:
            return (await self.queue.depth()).permits == permits

        await until_true(are_so, what=f"{permits} permits in the store")


@pytest.fixture
async def world(redis_url: str) -> AsyncIterator[World]:
    client = Redis.from_url(redis_url)
    supervisor = Supervisor()
    world = World(client, redis_url, supervisor)
    await world.heartbeat.start()
    yield world
    await supervisor.stop()
    await world.heartbeat.stop()
    await client.aclose()


async def test_while_one_runs_alone_nothing_is_granted_only_to_come_back(world: World) -> None:
    supervisor = world.runner._supervisor
    others = [await world.grant() for _ in range(2)]
    running = [supervisor.spawn(world.runner.run(g.ref, g.fence, False), name="run") for g in others]
    await until(lambda: len(world.engine.requests) == 2)
    suspect = await world.grant()
    alone = supervisor.spawn(world.runner.run(suspect.ref, suspect.fence, True), name="run")
    await world.offers(3)
    await world.prompts.accept_many("bob", 10)
    assert await world.queue.grant(64, LONG_S) == []
    for other in running:
        world.engine.steps.put_nowait(END)
        assert await within(other) is Outcome.ENDED
    await until(lambda: len(world.engine.requests) == 3)
    await world.offers(1)
    assert await world.queue.grant(64, LONG_S) == []
    world.engine.steps.put_nowait(END)
    assert await within(alone) is Outcome.ENDED
    await world.offers(4)
    assert len(await world.queue.grant(64, LONG_S)) == 4
