"""Listings on a real store: their bounds, and what they show to whom."""

from __future__ import annotations

from typing import Any

import pytest

from deployments.ingress import wire
from pipeline.query import Query, newest_first, one_of, parse_query
from tests.integration.listing_store import USERS, Store, as_seen_by, ids, pages

LOOKED_THROUGH = {"filters": [{"field": "maxRetries", "operator": "equals", "value": 1}], "limit": 10, "count": True}


async def a_hundred(store: Store) -> None:
    for number in range(100):
        await store.accept("ann", f"p{number:03}", max_retries=int(number % 25 == 24))


async def test_a_listing_that_reaches_its_bounds_says_so_and_goes_on(store: Store) -> None:
    await a_hundred(store)
    found = await pages(store.listing(rows=40), LOOKED_THROUGH, user_id="ann")
    assert ids(found) == ["p024", "p049", "p074", "p099"]
    assert [page.is_truncated for page in found] == [True, True, False]
    assert [page.count for page in found] == [2, 2, 2]  # of the newest 40
    assert all(page.is_count_partial for page in found)


async def test_a_sorted_listing_that_reaches_its_bounds_sorts_what_it_looked_at_and_goes_on(store: Store) -> None:
    await a_hundred(store)
    order = [{"field": "maxRetries", "desc": True}, {"field": "id"}]
    found = await pages(store.listing(rows=40), {"orderBy": order, "limit": 25}, user_id="ann")
    names = [f"p{n:03}" for n in range(100)]
    window = lambda numbers: sorted(numbers, key=lambda n: (n % 25 != 24, n))  # noqa: E731
    right = [*window(range(60, 100)), *window(range(20, 60)), *window(range(20))]
    assert ids(found) == [names[n] for n in right]
    assert [page.is_truncated for page in found] == [True, True, True, True, False]


async def test_a_listing_that_takes_too_long_says_so(store: Store) -> None:
    await a_hundred(store)
    page = await store.listing(seconds=0.0001).page(parse_query(LOOKED_THROUGH), user_id="ann", show=wire.prompt_object)
    assert page.is_truncated
    assert page.after is not None


async def test_what_the_indexes_answer_is_counted_whatever_the_bounds(store: Store) -> None:
    await a_hundred(store)
    await store.run(30)
    query = Query(
        conditions=(one_of("threadId", ["t"]), one_of("status", ["completed"])), order=newest_first(), count=True
    )
    page = await store.listing(rows=25).page(query, user_id="ann", show=wire.prompt_object)
    assert (page.count, page.is_count_partial, page.is_truncated) == (30, False, False)
    assert ids([page])[0] == "p029"


async def test_many_threads_at_once_are_one_listing(store: Store) -> None:
    for number in range(60):
        await store.accept("ann", f"p{number:02}", f"t{number % 30}")
    threads = [f"t{number}" for number in range(1000)]
    raw = {"filters": [{"field": "threadId", "operator": "in", "value": threads}], "limit": 25, "count": True}
    found = await pages(store.listing(), raw, user_id="ann")
    assert ids(found) == [f"p{number:02}" for number in range(60)]
    assert found[0].count == 60


async def test_prompts_are_found_by_their_files(store: Store) -> None:
    await store.accept("ann", "bare")
    await store.accept("ann", "with", file_ids=("file-1", "file-2"))
    for operator, value, right in (
        ("equals", "file-2", ["with"]),
        ("intersects", ["file-0", "file-1"], ["with"]),
        ("notEquals", "file-1", ["bare"]),
        ("equals", None, ["bare"]),
    ):
        raw = {"filters": [{"field": "fileIds", "operator": operator, "value": value}]}
        assert ids(await pages(store.listing(), raw, user_id="ann")) == right


async def test_a_seed_that_a_float_cannot_hold_is_found(store: Store) -> None:
    for seed in (2**53, 2**53 + 1):
        await store.accept("ann", f"{seed}", parameters={"textToText": {"seed": seed}})
    raw = {"filters": [{"field": "parameters.textToText.seed", "operator": "equals", "value": 2**53 + 1}]}
    assert ids(await pages(store.listing(), raw, user_id="ann")) == [f"{2**53 + 1}"]


# -- admins -----------------------------------------------------------------------------------------------------------------


async def test_an_admin_finds_every_users_prompt_of_an_id_or_a_thread(store: Store) -> None:
    for user in USERS:
        await store.accept(user, "same", f"thread of {user}")
        await store.accept(user, f"of {user}", "shared")
    listing = store.listing()
    for field, name in (("id", "same"), ("threadId", "shared")):
        raw = {"filters": [{"field": field, "operator": "equals", "value": name}], "count": True}
        (page,) = await pages(listing, raw)
        assert [prompt.user_id for prompt in page.prompts] == list(USERS)
        assert page.count == 3
    # Whoever goes, the others stay.
    for gone, left in (("ann", USERS[1:]), ("cyd", ("bob",)), ("bob", ())):
        for prompt_id in ("same", f"of {gone}"):
            await store.prompts.cancel(f"{gone}/{prompt_id}")
            await store.prompts.erase(f"{gone}/{prompt_id}")
        for field, name in (("id", "same"), ("threadId", "shared")):
            (page,) = await pages(listing, {"filters": [{"field": field, "operator": "equals", "value": name}]})
            assert sorted(prompt.user_id for prompt in page.prompts) == sorted(left)


async def test_a_user_sees_nothing_of_others_whatever_is_asked(store: Store) -> None:
    await store.accept("ann", "hers", "shared")
    await store.accept("bob", "his", "shared")
    for condition in (
        {"field": "userId", "operator": "equals", "value": "bob"},
        {"field": "userId", "operator": "notEquals", "value": "ann"},
        {"field": "id", "operator": "equals", "value": "his"},
        {"field": "prompt", "operator": "containsSubstring", "value": "bob"},
        {"op": "or", "subFilters": [{"field": "userId", "operator": "equals", "value": "bob"}]},
    ):
        (page,) = await pages(store.listing(), {"filters": [condition], "count": True}, user_id="ann")
        assert (page.prompts, page.count) == ([], 0)
    either = [{"field": "userId", "operator": "in", "value": ["ann", "bob"]}]
    assert ids(await pages(store.listing(), {"filters": either}, user_id="ann")) == ["hers"]


@pytest.mark.parametrize(
    "condition",
    [
        {"field": "prompt", "operator": "containsSubstring", "value": "canary"},
        {"field": "prompt", "operator": "startsWith", "value": "canary"},
        {"field": "prompt", "operator": "equals", "value": "canary song"},
        {"field": "prompt", "operator": "gte", "value": "canary"},
        {"field": "parameters.textToText.template", "operator": "containsSubstring", "value": "canary"},
        {"field": "parameters.textToText", "operator": "notEquals", "value": None},
        {"field": "engineParameters.llamaCpp.template", "operator": "startsWith", "value": "canary"},
        {"field": "fileIds", "operator": "equals", "value": "file-canary"},
    ],
)
async def test_filters_on_texts_tell_an_admin_nothing_about_the_prompts_of_others(
    store: Store, condition: dict[str, Any]
) -> None:
    templates = {
        "parameters": {"textToText": {"template": "canary {prompt}"}},
        "engine_parameters": {"llamaCpp": {"template": "canary {prompt}"}},
        "file_ids": ("file-canary",),
    }
    await store.accept("bob", "his", prompt="canary song", **templates)
    await store.accept("ann", "hers", prompt="canary song", **templates)
    raw = {"filters": [condition], "count": True}
    (page,) = await pages(store.listing(), raw, show=as_seen_by("ann"))
    assert (ids([page]), page.count) == (["hers"], 1)


async def test_an_order_by_texts_tells_an_admin_nothing_about_the_prompts_of_others(store: Store) -> None:
    for number, text in enumerate(["c", "a", "b"]):
        await store.accept("bob", f"p{number}", prompt=text)
    found = await pages(store.listing(), {"orderBy": [{"field": "prompt"}], "limit": 1}, show=as_seen_by("ann"))
    assert ids(found) == ["p0", "p1", "p2"]
