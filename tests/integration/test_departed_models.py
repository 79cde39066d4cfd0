"""Prompts of a model that has left the catalogue: they end, once, and hold up nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from deployments.departed import DepartedModels
from pipeline.delta import Delta, DeltaKind, FinishReason
from pipeline.prompt import NewPrompt
from pipeline.states import Status
from pipeline.store.catalogue import BATCH, DEPARTED, CatalogueStore
from pipeline.store.logs import LogReader, decode_page
from pipeline.store.queue import Grant, ModelQueue
from tests.integration.queue_store import LONG_S, QueueStore

GONE, KEPT = "org/gone", "org/kept"
END = Delta(kind=DeltaKind.END, finish_reason=FinishReason.STOP)


class Store(QueueStore):
    """Its queue is that of the model that goes."""

    def router(self, *models: str) -> DepartedModels:
        return DepartedModels(CatalogueStore(self.client, self.keys), models or (KEPT,))

    async def accept(self, prompt_id: str, *, model: str = GONE, thread: str = "", history: bool | None = None) -> str:
        new = NewPrompt(
            id=prompt_id,
            user_id="ann",
            thread_id=thread or prompt_id,
            model_id=model,
            prompt="hi",
            prompt_token_ids=(1,),
            history=history,
        )
        await self.prompts.accept(new)
        return new.ref

    async def running(self) -> Grant:
        await self.attempts.register(GONE, "r1", permits=9, node="n1", lease_s=LONG_S)
        (grant,) = await self.queue.grant(1, LONG_S)
        await self.attempts.claim(grant.ref, grant.fence, replica="r1", lease_s=LONG_S, fingerprint="f")
        return grant

    async def finish(self, grant: Grant) -> bool:
        return await self.attempts.finish(
            grant.ref, grant.fence, message_id=f"msg-{grant.fence}", text="", meta_json="{}", end=END
        )

    async def a_minute_passes(self) -> None:
        """For what routers have said."""
        for model in await self.client.zrange(self.keys.models(), 0, -1):
            await self.client.zadd(self.keys.models(), {model: 1})

    async def lease_expires(self, ref: str) -> None:
        assert await self.client.zadd(self.keys.leases(GONE), {ref: 1}, xx=True, ch=True) == 1

    async def state(self, prompt_id: str) -> tuple[Status, str]:
        prompt = await self.prompts.get("ann", prompt_id)
        return prompt.status, prompt.error

    async def ends(self, ref: str) -> list[str | None]:
        """What the end entries of its log say."""
        (page,) = await LogReader(self.client, self.keys).read([(ref, 0)])
        return [entry.delta.error for entry in decode_page(page) if entry.delta.kind is DeltaKind.END]


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    client = Redis.from_url(redis_url)
    yield Store.on(client, GONE)
    await client.aclose()


async def after_a_while(store: Store, router: DepartedModels) -> int:
    """How many the router closes once nobody has spoken of other models for long enough."""
    await store.a_minute_passes()
    assert await router.look() == 0
    await store.a_minute_passes()
    return await router.look()


async def test_what_waits_and_what_is_to_be_tried_again_is_abandoned(store: Store) -> None:
    await store.accept("failed")
    grant = await store.running()
    await store.attempts.retry_later(grant.ref, grant.fence, error="oops", delay_s=LONG_S)
    await store.accept("waits")
    await store.accept("other", model=KEPT)
    assert await after_a_while(store, store.router()) == 2
    for prompt_id in ("failed", "waits"):
        assert await store.state(prompt_id) == (Status.ABANDONED, DEPARTED)
        assert await store.ends(f"ann/{prompt_id}") == [DEPARTED]
    assert (await store.state("other"))[0] is Status.SCHEDULED
    depth = await store.queue.depth()
    assert (depth.waiting, depth.delayed, depth.leased, depth.cost) == (0, 0, 0, 0)


async def test_a_backlog_is_closed_in_batches(store: Store) -> None:
    for number in range(BATCH + 3):
        await store.accept(f"p{number}")
    await store.a_minute_passes()
    assert await CatalogueStore(store.client, store.keys).close_departed(GONE) == BATCH
    assert await after_a_while(store, store.router()) == 3
    assert (await store.queue.depth()).waiting == 0


async def test_a_conversation_goes_on_behind_it(store: Store) -> None:
    await store.accept("first", thread="t", history=True)
    await store.accept("second", thread="t", history=True)
    await store.accept("third", thread="t", history=True, model=KEPT)
    assert await after_a_while(store, store.router()) == 2
    kept = ModelQueue(store.client, store.keys, KEPT)
    assert ((await kept.depth()).waiting, (await kept.depth()).blocked) == (1, 0)


async def test_one_that_is_blocked_by_a_living_model_ends_when_its_turn_comes(store: Store) -> None:
    first = await store.accept("first", thread="t", history=True, model=KEPT)
    await store.accept("second", thread="t", history=True)
    router = store.router()
    assert await after_a_while(store, router) == 0
    assert (await store.state("second"))[0] is Status.SCHEDULED
    await store.prompts.cancel(first)
    await store.a_minute_passes()
    assert await router.look() == 1
    assert await store.state("second") == (Status.ABANDONED, DEPARTED)


async def test_an_attempt_that_holds_its_lease_finishes(store: Store) -> None:
    ref = await store.accept("p")
    grant = await store.running()
    router = store.router()
    assert await after_a_while(store, router) == 0
    assert await store.finish(grant)
    assert await router.look() == 0
    assert (await store.state("p"))[0] is Status.COMPLETED
    assert await store.ends(ref) == [None]


async def test_one_whose_lease_is_over_is_abandoned_and_its_replica_refused(store: Store) -> None:
    ref = await store.accept("p")
    grant = await store.running()
    await store.lease_expires(ref)
    assert await after_a_while(store, store.router()) == 1
    assert not await store.finish(grant)
    assert not await store.attempts.hand_back(grant.ref, grant.fence, replica="r1")
    assert await store.state("p") == (Status.ABANDONED, DEPARTED)
    assert await store.ends(ref) == [DEPARTED]


async def test_a_model_that_another_router_has_is_left_alone(store: Store) -> None:
    """One of the deploy before, whose replicas still run, or one of the next, whose model an old router does not know."""
    await store.accept("p")
    old, new = store.router(KEPT), store.router(KEPT, GONE)
    for _ in range(3):
        await store.a_minute_passes()
        await new.look()
        assert await old.look() == 0
    assert (await store.state("p"))[0] is Status.SCHEDULED


async def test_a_model_is_not_closed_before_its_routers_have_had_their_turn(store: Store) -> None:
    """After an outage of the store whoever comes first finds nobody's word."""
    await store.accept("p")
    one, other = store.router(KEPT), store.router(GONE)
    await store.a_minute_passes()
    assert await one.look() == 0
    await other.look()
    assert await one.look() == 0
    assert (await store.state("p"))[0] is Status.SCHEDULED


async def test_what_is_accepted_before_any_router_has_started_waits_for_it(store: Store) -> None:
    await store.accept("p")
    router = store.router()
    assert [await router.look(), await router.look()] == [0, 0]
    assert (await store.state("p"))[0] is Status.SCHEDULED


async def test_nothing_is_left_of_it_and_its_name_can_be_used_again(store: Store) -> None:
    await store.accept("p")
    await store.queue.follow([])
    await store.attempts.register(GONE, "r1", permits=4, node="n1", lease_s=LONG_S)
    router = store.router()
    assert await after_a_while(store, router) == 1
    await store.client.zadd(store.keys.replicas(GONE), {"r1": 1})
    await store.a_minute_passes()
    assert await router.look() == 0
    assert await store.client.zrange(store.keys.models(), 0, -1) == [KEPT.encode()]
    assert (await store.queue.depth()).permits == 0
    await store.accept("again")
    assert [await router.look(), await router.look()] == [0, 0]
    assert (await store.state("again"))[0] is Status.SCHEDULED
