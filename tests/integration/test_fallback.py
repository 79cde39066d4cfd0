"""Prompts that wait are moved to another model: which ones, what of them changes, and what the other model gets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import pytest
from redis.asyncio import Redis

from deployments.fallback import BATCH, Fallbacks
from deployments.ingress.model_state import ServeView
from deployments.routing import CurrentRouting, FallbackRule
from deployments.settings import Settings
from pipeline.prompt import Fallback, NewPrompt, Prompt
from pipeline.store.attempts import AttemptStore, Claimed
from pipeline.store.keys import Keys
from pipeline.store.prompts import PromptStore
from pipeline.store.queue import Grant, ModelQueue

LONG_S = 1000.0
FIRST, SECOND = "org/first", "org/second"
FAILED = ServeView(status="DEPLOY_FAILED")


@dataclass
class Serve:
    views: dict[str, ServeView] = field(default_factory=dict)

    async def view(self, deployment: str) -> ServeView | None:
        return self.views.get(deployment)


class World:
    def __init__(self, client: Redis) -> None:
        keys = Keys("ps")
        self.client, self.keys = client, keys
        self.prompts = PromptStore(client, keys)
        self.attempts = AttemptStore(client, keys)
        self.queues = {model: ModelQueue(client, keys, model) for model in (FIRST, SECOND)}
        self.serve = Serve()
        models = [{"id": model, "engine": "scripted", "source": "none"} for model in (FIRST, SECOND)]
        self.routing = CurrentRouting(Settings.parse({"redis_url": "redis://none.invalid", "models": models}))
        deployments = {FIRST: "LLM-first", SECOND: "LLM-second"}
        self.fallbacks = Fallbacks(self.routing, self.queues, deployments, self.serve)

    async def accept(
        self, name: str, *, user: str = "ann", movable: bool = True, cost: float = 1, history: bool | None = None
    ) -> str:
        new = NewPrompt(
            id=name,
            user_id=user,
            thread_id=name,
            model_id=FIRST,
            prompt="words",
            prompt_token_ids=(1, 2),
            cost=cost,
            history=history,
            fallback=Fallback(model_id=SECOND, prompt_token_ids=(7, 8, 9)) if movable else None,
        )
        return (await self.prompts.accept(new)).prompt.ref

    async def claim(self, model: str) -> tuple[Claimed, Grant]:
        """What a replica of the model gets."""
        replica = f"of {model}"
        await self.attempts.register(model, replica, permits=1, node="n", lease_s=LONG_S)
        (grant,) = await self.queues[model].grant(1, LONG_S)
        claimed = await self.attempts.claim(grant.ref, grant.fence, replica=replica, lease_s=LONG_S, fingerprint=model)
        return claimed, grant

    async def get(self, name: str, user: str = "ann") -> Prompt:
        prompt = await self.prompts.get(user, name)
        assert prompt is not None
        return prompt

    async def waiting(self) -> tuple[int, int]:
        first, second = [await queue.depth() for queue in self.queues.values()]
        return first.waiting, second.waiting

    async def look(self, over_waiting: int | None = None) -> int:
        return await self.fallbacks.look(FIRST, FallbackRule(model=SECOND, over_waiting=over_waiting))

    async def left(self) -> Mapping[bytes, bytes]:
        return await self.client.hgetall(self.keys.stats(FIRST))  # type: ignore[no-any-return, misc]


@pytest.fixture
async def world(redis_url: str) -> AsyncIterator[World]:
    client = Redis.from_url(redis_url)
    yield World(client)
    await client.aclose()


async def test_a_failed_model_loses_all_that_wait(world: World) -> None:
    for number in range(3):
        await world.accept(f"p{number}")
    await world.accept("stays", movable=False)
    assert await world.look() == 0
    world.serve.views["LLM-first"] = FAILED
    assert await world.look() == 3
    assert await world.waiting() == (1, 3)
    moved = await world.get("p0")
    assert (moved.model_id, moved.routed) == (SECOND, "fallback from org/first: failed")
    stays = await world.get("stays")
    assert (stays.model_id, stays.routed) == (FIRST, "")


async def test_a_model_that_has_a_replica_has_not_failed(world: World) -> None:
    await world.accept("p")
    world.serve.views["LLM-first"] = ServeView(status="UNHEALTHY", replicas={"RUNNING": 1})
    await world.attempts.register(FIRST, "r1", permits=1, node="n", lease_s=LONG_S)
    assert await world.look() == 0


async def test_beyond_a_limit_the_newest_move(world: World) -> None:
    for number in range(6):
        await world.accept(f"p{number}", user=f"user-{number % 2}")
    assert await world.look(over_waiting=6) == 0
    assert await world.look(over_waiting=4) == 2
    assert await world.waiting() == (4, 2)
    assert [(await world.get(f"p{n}", f"user-{n % 2}")).model_id for n in range(6)] == [FIRST] * 4 + [SECOND] * 2
    assert (await world.get("p5", "user-1")).routed == "fallback from org/first: saturated"
    assert await world.look(over_waiting=4) == 0


async def test_more_than_one_batch_moves_in_several(world: World) -> None:
    for number in range(BATCH + 5):
        await world.accept(f"p{number}")
    assert await world.look(over_waiting=0) == BATCH + 5
    assert await world.waiting() == (0, BATCH + 5)


async def test_the_other_model_gets_the_prompt_as_it_wants_it_and_no_further_fallback(world: World) -> None:
    ref = await world.accept("p")
    assert await world.look(over_waiting=0) == 1
    await world.attempts.register(SECOND, "r2", permits=1, node="n", lease_s=LONG_S)
    (grant,) = await world.queues[SECOND].grant(1, LONG_S)
    claimed = await world.attempts.claim(ref, grant.fence, replica="r2", lease_s=LONG_S, fingerprint="f")
    assert claimed.prompt_token_ids == (7, 8, 9)
    assert await world.client.hmget(world.keys.prompt(ref), "fallback", "fallback_tokens") == [None, None]
    assert await world.queues[SECOND].move(stay=0, most=10, why="") == 0


@pytest.mark.parametrize("rendered", [True, False])
async def test_the_other_model_renders_the_history_itself(world: World, rendered: bool) -> None:
    ref = await world.accept("p", history=True)
    claimed, grant = await world.claim(FIRST)
    assert claimed.history is not None
    if rendered:
        # Twice: a reply may get lost.
        assert await world.attempts.keep_rendered(ref, grant.fence, (1, 2, 3, 4, 5))
        assert await world.attempts.keep_rendered(ref, grant.fence, (1, 2, 3, 4, 5))
    await world.attempts.hand_back(ref, grant.fence, replica=f"of {FIRST}")
    assert await world.look(over_waiting=0) == 1
    again, _ = await world.claim(SECOND)
    assert (again.history, again.prompt_token_ids) == (claimed.history, (7, 8, 9))


async def test_one_that_stands_alone_gets_no_history_by_moving(world: World) -> None:
    ref = await world.accept("p", history=False)
    _, grant = await world.claim(FIRST)
    assert await world.attempts.keep_rendered(ref, grant.fence, (1, 2, 3, 4, 5))
    await world.attempts.hand_back(ref, grant.fence, replica=f"of {FIRST}")
    assert await world.look(over_waiting=0) == 1
    assert (await world.claim(SECOND))[0].history is None


async def test_what_runs_is_not_moved(world: World) -> None:
    await world.accept("runs")
    await world.attempts.register(FIRST, "r1", permits=1, node="n", lease_s=LONG_S)
    (grant,) = await world.queues[FIRST].grant(1, LONG_S)
    await world.accept("waits")
    assert await world.look(over_waiting=0) == 1
    assert (await world.get("runs")).model_id == FIRST
    # Handed back it waits, and may be.
    await world.queues[FIRST].hand_back(grant.ref, grant.fence)
    assert await world.look(over_waiting=0) == 1


async def test_what_is_cancelled_or_has_ended_leaves_nothing(world: World) -> None:
    ref = await world.accept("p", cost=2.5)
    assert (await world.queues[FIRST].depth()).cost == 2.5
    await world.prompts.cancel(ref)
    assert await world.client.exists(world.keys.movable(FIRST)) == 0
    assert await world.client.hmget(world.keys.prompt(ref), "fallback", "fallback_tokens") == [None, None]
    assert int((await world.left())[b"extra"]) == 0


async def test_the_cost_moves_along(world: World) -> None:
    await world.accept("p", cost=2.5)
    await world.accept("q")
    await world.look(over_waiting=1)
    await world.look(over_waiting=0)
    first, second = [await queue.depth() for queue in world.queues.values()]
    assert (first.cost, second.cost) == (0, 3.5)


async def test_demand_is_what_waits_and_what_runs(world: World) -> None:
    for number, cost in enumerate((1, 4, 0.25)):
        await world.accept(f"p{number}", cost=cost)
    assert (await world.queues[FIRST].depth()).demand == 5.25
    await world.attempts.register(FIRST, "r1", permits=2, node="n", lease_s=LONG_S)
    granted = await world.queues[FIRST].grant(2, LONG_S)
    assert (await world.queues[FIRST].depth()).demand == 5.25
    # A retry that is not due yet needs no replica.
    assert await world.attempts.retry_later(granted[1].ref, granted[1].fence, error="x", delay_s=LONG_S)
    assert (await world.queues[FIRST].depth()).demand == 1.25


async def test_who_asks_for_a_replica_is_a_demand_for_one(world: World) -> None:
    assert (await world.queues[FIRST].depth()).demand == 0
    await world.queues[FIRST].want()
    depth = await world.queues[FIRST].depth()
    assert depth.wanted
    assert 0 < depth.demand < 1
    assert await world.client.ttl(world.keys.wanted(FIRST)) > 500
