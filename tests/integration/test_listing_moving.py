"""Pages of a real store while prompts are added to it and change their status."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from deployments.ingress import wire
from pipeline.query import Query, one_of
from pipeline.states import Status
from pipeline.store import walk
from tests.integration.listing_store import Store, ids, pages

MOVING = {
    "by creation": {"filters": [{"field": "threadId", "operator": "equals", "value": "busy"}]},
    "newest first": {
        "filters": [{"field": "threadId", "operator": "equals", "value": "busy"}],
        "orderBy": [{"field": "createdAt", "desc": True}],
    },
    "by status": {
        "filters": [{"field": "status", "operator": "notEquals", "value": "abandoned"}],
        "orderBy": [{"field": "createdAt"}],
    },
    "by status, newest first": {
        "filters": [{"field": "status", "operator": "in", "value": [s.value for s in Status]}],
        "orderBy": [{"field": "createdAt", "desc": True}],
    },
    "looked through": {"filters": [{"field": "prompt", "operator": "containsSubstring", "value": "words"}]},
    "by another key": {
        "filters": [{"field": "threadId", "operator": "equals", "value": "busy"}],
        "orderBy": [{"field": "id", "desc": True}],
    },
    "at random": {
        "filters": [{"field": "threadId", "operator": "equals", "value": "busy"}],
        "orderBy": [{"sortingType": "random"}],
    },
}


@pytest.mark.parametrize("name", MOVING)
@pytest.mark.parametrize("user_id", ["ann", None])
async def test_pages_have_neither_gaps_nor_repeats_while_prompts_are_added_and_change_status(
    store: Store, name: str, user_id: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So few entries a step that a page needs many, with transitions in between.
    monkeypatch.setattr(walk, "READ_TOGETHER", 6)
    before = [(await store.accept("ann", f"p{n:03}", "busy")).id for n in range(40)]
    reading, moved = True, asyncio.Event()

    async def mutate() -> None:
        added = 0
        while reading:
            await store.accept("ann", f"q{added:05}", "busy")
            added += 1
            for outcome in ("hand back", "finish", "retry", "leave"):
                await store.run(1, outcome)
            moved.set()

    async def until_moved() -> None:
        moved.clear()
        await moved.wait()

    mutating = asyncio.create_task(mutate())
    query = {**MOVING[name], "limit": 3}
    found = await pages(store.listing(), query, user_id=user_id, between=until_moved)
    reading = False
    await mutating
    seen = ids(found)
    assert len(seen) == len(set(seen))
    assert set(before) <= set(seen)
    if name == "by creation":
        assert seen == sorted(seen)


async def test_every_page_of_a_status_holds_only_that_status(store: Store) -> None:
    """The index is read before the record; what has moved on in between is left out."""
    prompts = [await store.accept("ann", f"p{n}") for n in range(5)]
    get_many = store.prompts.get_many

    async def slowly(refs: Any) -> Any:
        await store.prompts.cancel(prompts[1].ref)
        await store.prompts.cancel(prompts[2].ref)
        await store.prompts.erase(prompts[2].ref)
        return await get_many(refs)

    store.prompts.get_many = slowly  # type: ignore[method-assign]
    query = Query(conditions=(one_of("status", ["scheduled"]),))
    page = await store.listing().page(query, user_id="ann", show=wire.prompt_object)
    assert ids([page]) == ["p0", "p3", "p4"]


async def test_the_clock_may_go_back(store: Store) -> None:
    """The order of creation is the order of acceptance, whatever the clock says."""
    first = await store.accept("ann", "a")
    ahead = first.created_us + 10**12
    await store.client.set(store.keys.seq(), ahead)
    later = [await store.accept("ann", name) for name in "bc"]
    assert [prompt.created_us for prompt in later] == [ahead + 1, ahead + 2]
    found = await pages(store.listing(), {"limit": 1}, user_id="ann")
    assert ids(found) == ["a", "b", "c"]
