"""A store whose prompts were indexed by an earlier version, by a counter and in fewer ways, is listed like any other."""

from __future__ import annotations

from typing import Any

from pipeline.states import Status
from pipeline.store.keys import Keys
from tests.integration.listing_store import USERS, Store


async def indexes(store: Store) -> dict[bytes, Any]:
    found: dict[bytes, Any] = {}
    for pattern in ("i:*", "owner*", "t-owner*"):
        async for key in store.client.scan_iter(f"{store.keys.namespace}:{pattern}"):
            is_hash = await store.client.type(key) == b"hash"
            found[key] = await (
                store.client.hgetall(key) if is_hash else store.client.zrange(key, 0, -1, withscores=True)
            )
    return found


async def as_it_was(store: Store, keys: Keys) -> None:
    """Score the indexes by a counter and drop those that did not exist."""
    refs = await store.client.zrange(keys.all(), 0, -1)
    await store.client.delete(keys.thread_owner(), keys.owners("same"), keys.thread_owners("shared"))
    async for key in store.client.scan_iter(f"{keys.namespace}:i:*"):
        if b":i:thread-status:" in key or b":i:ended:" in key:
            await store.client.delete(key)
        else:
            for ref in await store.client.zrange(key, 0, -1):
                await store.client.zadd(key, {ref: refs.index(ref) + 1})
    await store.client.set(keys.seq(), len(refs))


async def test_prompts_of_the_first_layout_are_indexed_like_all_others(store: Store) -> None:
    for user in USERS:
        await store.accept(user, "same", "shared")
        for outcome in ("finish", "abandon", "retry", "leave"):
            await store.accept(user, outcome)
    for outcome in ("finish", "abandon", "retry", "leave"):
        await store.run(3, outcome)
    await store.prompts.cancel("cyd/leave")
    right = await indexes(store)
    ends = {store.keys.ended(status).encode() for status in Status}
    await as_it_was(store, store.keys)
    await store.accept("ann", "meanwhile", "shared")

    assert await store.prompts.adopt_earlier_layout(batch=4) == 15

    await store.prompts.cancel("ann/meanwhile")
    await store.prompts.erase("ann/meanwhile")
    assert await indexes(store) == right
    assert right.keys() & ends
    assert await store.prompts.adopt_earlier_layout() == 0
