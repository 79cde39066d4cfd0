"""Prompts that were kept long enough go, with everything that says what was in them."""

from __future__ import annotations

import pytest

from deployments.settings import RetentionSpec
from pipeline.states import Status
from pipeline.store.queue import ModelQueue
from pipeline.store.retention import Retention
from tests.integration.contents import everything_in
from tests.integration.listing_store import Store

DAY_US = 86_400 * 10**6
CANARY = "canary"


def retention(store: Store, **days: float) -> Retention:
    return Retention(store.client, store.keys, RetentionSpec(**days).days)


async def age(store: Store, days: float) -> None:
    """Let every prompt have ended that long ago."""
    for status in Status:
        for ref, ended in await store.client.zrange(store.keys.ended(status), 0, -1, withscores=True):
            await store.client.zadd(store.keys.ended(status), {ref: ended - days * DAY_US})


async def one_of_each(store: Store) -> None:
    """A prompt in every status, in threads of their own."""
    for name, outcome in (("done", "finish"), ("given-up", "abandon"), ("again", "retry"), ("busy", "leave")):
        await store.accept("ann", name, f"thread-{name}", prompt=f"{CANARY} {name}")
        await store.run(1, outcome)
    await store.accept("ann", "stopped", "thread-stopped", prompt=f"{CANARY} stopped")
    await store.prompts.cancel("ann/stopped")
    await store.accept("ann", "waits", "thread-waits", prompt=f"{CANARY} waits")


async def ids_left(store: Store) -> set[str]:
    return {ref.decode().split("/")[1] for ref in await store.client.zrange(store.keys.all(), 0, -1)}


async def test_without_a_setting_everything_is_kept(store: Store) -> None:
    assert retention(store).is_for_ever
    await one_of_each(store)
    await age(store, 1000)
    assert await retention(store).erase_expired() == 0
    assert len(await ids_left(store)) == 6


@pytest.mark.parametrize(
    ("days", "gone"),
    [
        ({"completed": 30}, {"done"}),
        ({"abandoned": 30}, {"given-up"}),
        ({"canceled": 30}, {"stopped"}),
        ({"completed": 30, "abandoned": 30, "canceled": 30}, {"done", "given-up", "stopped"}),
        ({"completed": 32, "abandoned": 30}, {"given-up"}),
        ({"completed": 31.5}, set()),
    ],
)
async def test_each_status_is_kept_as_long_as_it_is_set_to(
    store: Store, days: dict[str, float], gone: set[str]
) -> None:
    await one_of_each(store)
    everybody = await ids_left(store)
    await age(store, 31)
    assert await retention(store, **days).erase_expired() == len(gone)
    assert await ids_left(store) == everybody - gone
    assert await retention(store, **days).erase_expired() == 0


async def test_nothing_of_an_erased_prompt_is_left(store: Store) -> None:
    before = await everything_in(store.client)
    await one_of_each(store)
    for name in ("again", "busy", "waits"):
        await store.prompts.cancel(f"ann/{name}")
    assert any(CANARY.encode() in item for item in await everything_in(store.client))
    await age(store, 2)
    assert await retention(store, completed=1, abandoned=1, canceled=1).erase_expired() == 6
    left = await everything_in(store.client)
    assert not [item for item in left if CANARY.encode() in item or b"done" in item.replace(b"t:ann/thread-done", b"")]
    # Counters of queues and the places that threads gave out stay, the latter for a week.
    assert before == []
    kinds = {item.split(b":")[1].split(b"{")[0].split(b"[")[0].split(b"b'")[0] for item in left}
    assert kinds <= {b"q-stats", b"q-replicas", b"q-permits", b"q-nodes", b"models", b"t", b"seq", b"fence"}
    async for thread in store.client.scan_iter(store.keys.thread("*")):
        assert await store.client.ttl(thread) > 0


async def test_a_backlog_is_erased_in_batches_the_longest_kept_first(store: Store) -> None:
    for number in range(7):
        await store.accept("ann", f"p{number}", prompt=CANARY)
        await store.run(1)
    await age(store, 2)
    keeper = retention(store, completed=1)
    assert await keeper.erase_expired(3) == 3
    assert await ids_left(store) == {"p3", "p4", "p5", "p6"}
    assert [await keeper.erase_expired(3), await keeper.erase_expired(3)] == [3, 1]
    assert await ids_left(store) == set()


async def test_one_batch_is_shared_by_all_statuses(store: Store) -> None:
    await one_of_each(store)
    await age(store, 2)
    keeper = retention(store, completed=1, abandoned=1, canceled=1)
    assert [await keeper.erase_expired(2), await keeper.erase_expired(2)] == [2, 1]


async def test_what_ended_just_now_is_kept_however_old_it_is(store: Store) -> None:
    """The time counts from the end of a prompt: one that waited for a month is not gone with its answer."""
    prompt = await store.accept("ann", "slow")
    await store.client.hset(store.keys.prompt(prompt.ref), "created", prompt.created_us - 60 * DAY_US)
    await store.run(1)
    assert await retention(store, completed=30).erase_expired() == 0


async def test_prompts_of_a_model_that_left_the_catalogue_go_too(store: Store) -> None:
    """Their queue has no ledger any more: whoever sweeps another one erases them."""
    gone = ModelQueue(store.client, store.keys, "gone")
    prompt = await store.accept("ann", "old")
    await store.client.hset(store.keys.prompt(prompt.ref), "model", gone.model_id)
    await store.prompts.cancel(prompt.ref)
    await age(store, 2)
    assert await retention(store, canceled=1).erase_expired() == 1
    assert await ids_left(store) == set()


async def test_an_entry_that_points_nowhere_holds_up_nothing(store: Store) -> None:
    await store.accept("ann", "p")
    await store.run(1)
    await store.accept("ann", "again")
    await age(store, 2)
    await store.client.zadd(store.keys.ended(Status.COMPLETED), {"ann/nobody": 1, "ann/again": 2})
    keeper = retention(store, completed=1)
    assert await keeper.erase_expired() == 3
    assert await ids_left(store) == {"again"}
    assert await keeper.erase_expired() == 0
