"""Who is next: priority, then users by turns; and what the queue position promises about it."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Sequence

import pytest
from redis.asyncio import Redis

from pipeline.prompt import NewPrompt
from pipeline.store.attempts import AttemptStore
from pipeline.store.connection import connect_patient
from pipeline.store.keys import Keys
from pipeline.store.prompts import PromptStore
from pipeline.store.queue import Grant, ModelQueue

KEYS = Keys("test")
MODEL = "m"
LONG_S = 1000.0
_numbers = itertools.count()


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    client = connect_patient(redis_url)
    yield client
    await client.aclose()


class Queue:
    """One model's queue, its clients and its one replica."""

    def __init__(self, client: Redis) -> None:
        self.prompts = PromptStore(client, KEYS)
        self._queue = ModelQueue(client, KEYS, MODEL)
        self._attempts = AttemptStore(client, KEYS)
        self._client = client

    async def accept(self, user: str, priority: int = 0) -> tuple[str, int | None]:
        """The new prompt's ref and the position it is told."""
        new = NewPrompt(
            id=f"p{next(_numbers)}",
            user_id=user,
            thread_id="t",
            model_id=MODEL,
            prompt="words",
            prompt_token_ids=(1,),
            priority=priority,
        )
        accepted = await self.prompts.accept(new)
        return new.ref, accepted.queue_position

    async def accept_many(self, user: str, count: int) -> None:
        for chunk in range(0, count, 1000):
            await asyncio.gather(*(self.accept(user) for _ in range(chunk, min(chunk + 1000, count))))

    async def permits(self, permits: int) -> None:
        await self._attempts.register(MODEL, "r1", permits=permits, node="n1", lease_s=LONG_S)

    async def grant(self, most: int) -> list[Grant]:
        return await self._queue.grant(most, LONG_S)

    async def finish(self, grant: Grant) -> None:
        assert await self._attempts.abandon(grant.ref, grant.fence, error="enough")

    async def positions(self, refs: Sequence[str]) -> list[int | None]:
        return list(await asyncio.gather(*(self.prompts.queue_position(ref) for ref in refs)))

    async def drained(self) -> list[str]:
        """Everything that waits, in the order in which it is granted."""
        await self.permits(100_000)
        return [grant.ref for grant in await self.grant(100_000)]


@pytest.fixture
def queue(client: Redis) -> Queue:
    return Queue(client)


def users(grants: Sequence[Grant]) -> list[str]:
    return [grant.ref.split("/")[0] for grant in grants]


@pytest.mark.parametrize("permits", [1, 4])
async def test_ten_thousand_prompts_delay_anothers_by_one_per_free_permit(queue: Queue, permits: int) -> None:
    await queue.permits(permits)
    await queue.accept_many("ann", 10_000)
    running = await queue.grant(permits)
    assert users(running) == ["ann"] * permits
    bobs, position = await queue.accept("bob")
    assert position == 2
    # One permit gets free after the other; the second one at the latest is bob's.
    await queue.finish(running[0])
    first = await queue.grant(permits)
    assert len(first) == 1
    if first[0].ref != bobs:
        await queue.finish(first[0])
        assert [grant.ref for grant in await queue.grant(permits)] == [bobs]
    assert await queue.prompts.queue_position(bobs) is None


async def test_users_take_turns_whatever_they_have_queued(queue: Queue) -> None:
    await queue.accept_many("ann", 50)
    await queue.accept_many("bob", 3)
    await queue.accept_many("cyd", 1)
    assert [ref.split("/")[0] for ref in (await queue.drained())[:8]] == [
        "ann",
        "bob",
        "cyd",
        "ann",
        "bob",
        "ann",
        "bob",
        "ann",
    ]


async def test_a_higher_priority_goes_first_and_a_lower_one_last(queue: Queue) -> None:
    accepted = [await queue.accept("ann", priority) for priority in (0, -10, 10, 5, 0)]
    assert [position for _, position in accepted] == [1, 2, 1, 2, 4]
    refs = [ref for ref, _ in accepted]
    assert await queue.drained() == [refs[i] for i in (2, 3, 0, 4, 1)]


@pytest.mark.parametrize("seed", range(30))
async def test_a_position_is_the_place_in_the_order_of_grants(queue: Queue, seed: int) -> None:
    chance = random.Random(seed)
    names = [f"u{n}" for n in range(chance.randint(1, 12))]
    accepted: list[str] = []
    await queue.permits(30)
    for _ in range(chance.randint(1, 80)):
        ref, told = await queue.accept(chance.choice(names), chance.choice([0, 0, 0, 5, -3]))
        accepted.append(ref)
        assert told == await queue.prompts.queue_position(ref)
        if chance.random() < 0.2:
            await queue.grant(chance.randint(1, 3))
        if chance.random() < 0.1:
            await queue.prompts.cancel(chance.choice(accepted))
    positions = await queue.positions(accepted)
    waiting = sorted((p, ref) for p, ref in zip(positions, accepted, strict=True) if p is not None)
    assert [position for position, _ in waiting] == list(range(1, len(waiting) + 1))
    assert [ref for _, ref in waiting] == await queue.drained()


async def test_with_more_users_than_are_looked_at_it_is_an_upper_bound(queue: Queue) -> None:
    refs = []
    for number in range(300):
        refs += [(await queue.accept(f"u{number % 150}"))[0]]
    refs += [(await queue.accept("low", -1))[0], (await queue.accept("high", 1))[0]]
    told = await queue.positions(refs)
    order = await queue.drained()
    for ref, position in zip(refs, told, strict=True):
        assert position is not None
        assert order.index(ref) + 1 <= position <= len(order)
    # The first prompt of a user needs no look at the others.
    assert told[:150] == [order.index(ref) + 1 for ref in refs[:150]]


async def test_what_does_not_wait_has_no_position(queue: Queue) -> None:
    await queue.permits(1)
    running, canceled, waiting = [(await queue.accept("ann"))[0] for _ in range(3)]
    (grant,) = await queue.grant(1)
    await queue.prompts.cancel(canceled)
    assert await queue.positions([running, canceled, waiting, "ann/none"]) == [None, None, 1, None]
    await queue.finish(grant)
    assert await queue.prompts.queue_position(running) is None
