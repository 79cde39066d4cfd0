"""Listings on a real store: against a plain evaluation in Python, while prompts are added and move, and within their bounds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from deployments.ingress import wire
from pipeline.delta import Delta, DeltaKind, FinishReason
from pipeline.prompt import NewPrompt, Prompt
from pipeline.query import Query, newest_first, one_of, parse_query
from pipeline.states import Status
from pipeline.store import walk
from pipeline.store.attempts import AttemptStore
from pipeline.store.keys import Keys
from pipeline.store.listing import Listing
from pipeline.store.page import Page
from pipeline.store.prompts import PromptStore
from pipeline.store.queue import ModelQueue
from pipeline.store.scan import Bounds

MODEL = "m"
USERS = ("ann", "bob", "cyd")
END = Delta(kind=DeltaKind.END, finish_reason=FinishReason.STOP)


class Store:
    """A store, and what the product does to it."""

    def __init__(self, url: str, namespace: str = "list") -> None:
        self.client = Redis.from_url(url)
        self.keys = Keys(namespace)
        self.prompts = PromptStore(self.client, self.keys)
        self.attempts = AttemptStore(self.client, self.keys)
        self.queue = ModelQueue(self.client, self.keys, MODEL)

    def listing(self, **bounds: Any) -> Listing:
        return Listing(self.client, self.keys, self.prompts, time_of=wire.timestamp, bounds=Bounds(**bounds))

    async def accept(self, user: str, prompt_id: str, thread: str = "t", **fields: Any) -> Prompt:
        new = NewPrompt(
            id=prompt_id,
            user_id=user,
            thread_id=thread,
            model_id=MODEL,
            prompt=fields.pop("prompt", f"words of {user}"),
            prompt_token_ids=(1,),
            **fields,
        )
        return (await self.prompts.accept(new)).prompt

    async def run(self, most: int, outcome: str = "finish") -> int:
        """Grant that many prompts, oldest first, and bring each to an outcome."""
        await self.attempts.register(MODEL, "r", permits=100_000, node="n", lease_s=1000)
        grants = await self.queue.grant(most, 1000)
        for grant in grants:
            await self.attempts.claim(grant.ref, grant.fence, replica="r", lease_s=1000, fingerprint="f")
            if outcome == "finish":
                message = f"msg-{grant.fence}"
                await self.attempts.finish(
                    grant.ref, grant.fence, message_id=message, text="yes", meta_json="{}", end=END
                )
            elif outcome == "retry":
                await self.attempts.retry_later(grant.ref, grant.fence, error="broken", delay_s=1000)
            elif outcome == "abandon":
                await self.attempts.abandon(grant.ref, grant.fence, error="broken for good")
            elif outcome == "hand back":
                await self.attempts.hand_back(grant.ref, grant.fence)
        return len(grants)


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    made = Store(redis_url)
    yield made
    await made.client.aclose()


def as_seen_by(user: str) -> Any:
    def show(prompt: Prompt) -> Mapping[str, Any]:
        return wire.prompt_object(prompt, with_text=prompt.user_id == user)

    return show


async def pages(
    listing: Listing,
    raw: dict[str, Any],
    *,
    user_id: str | None = None,
    show: Any = wire.prompt_object,
    most: int = 1000,
) -> list[Page]:
    """All pages of a query, each asked for with the cursor of the one before, as a client would."""
    found: list[Page] = []
    after: str | None = None
    for _ in range(most):
        cursor = {} if after is None else {"afterJson": json.dumps([after])}
        page = await listing.page(parse_query({**raw, **cursor}), user_id=user_id, show=show)
        found.append(page)
        after = page.after
        if after is None:
            return found
    raise AssertionError("the pages do not end")


def ids(found: list[Page]) -> list[str]:
    return [prompt.id for page in found for prompt in page.prompts]


# -- against a plain evaluation ---------------------------------------------------------------------------------------------


async def populate(store: Store) -> list[Prompt]:
    """Prompts of three users in every status, some ids and threads shared. Returns them in order of creation."""
    made = []
    for number in range(36):
        user = USERS[number % 3 if number % 5 else 0]
        parameters = (
            {"textToText": {"temperature": number % 4 / 2, "stop": ["x", "y"][: number % 3]}} if number % 2 else None
        )
        made.append(
            await store.accept(
                user,
                f"p{number % 25}",
                f"t{number % 4}",
                prompt=f"secret {number % 7} of {user}",
                max_retries=number % 3,
                sync=number % 4 == 0,
                parameters=parameters,
            )
        )
        outcome = {3: "finish", 8: "abandon", 14: "retry", 20: "leave"}.get(number % 22)
        if outcome:
            await store.run(2, outcome)
        if number % 9 == 7:
            await store.prompts.cancel(made[number - 2].ref)
    everything = await store.prompts.get_many(list(dict.fromkeys(prompt.ref for prompt in made)))
    return sorted((p for p in everything if p is not None), key=lambda p: p.created_us)


TEXTS = {
    "id": [f"p{n}" for n in range(0, 36, 5)],
    "threadId": [f"t{n}" for n in range(5)],
    "userId": [*USERS, "dan"],
    "status": [status.value for status in Status],
    "modelId": [MODEL, "other"],
    "prompt": ["secret 1 of ann", "secret", "ann", ""],
    "error": ["broken", "broken for good"],
    "responseMessageId": ["", "msg-1"],
}
NUMBERS = {"runCount": [0, 1, 2.0], "maxRetries": [0, 1, 2], "parameters.textToText.temperature": [0, 0.5, 1, 1.5]}
OPTIONAL = {"error", "runCount", "prompt", "responseMessageId", "parameters.textToText.temperature"}
ORDERED = ["equals", "notEquals", "in", "gt", "gte", "lt", "lte"]


@st.composite
def leaf(draw: st.DrawFn, created: list[str]) -> dict[str, Any]:
    field = draw(st.sampled_from([*TEXTS, *NUMBERS, "createdAt", "createdAt", "sync", "parameters.textToText.stop"]))
    if field == "createdAt":
        operator, values = draw(st.sampled_from(ORDERED)), created
    elif field == "sync":
        operator, values = draw(st.sampled_from(["equals", "notEquals"])), [True, False]
    elif field.endswith("stop"):
        operator, values = draw(st.sampled_from(["equals", "notEquals", "intersects"])), ["x", "y", "z"]
    elif field in NUMBERS:
        operator, values = draw(st.sampled_from(ORDERED)), NUMBERS[field]
    else:
        operator = draw(st.sampled_from([*ORDERED, "equals", "in", "containsSubstring", "startsWith"]))
        values = TEXTS[field]
    if field in OPTIONAL and operator in ("equals", "notEquals"):
        values = [*values, None]
    one: st.SearchStrategy[Any] = st.sampled_from(values)
    value = draw(st.lists(one, min_size=1, max_size=3) if operator in ("in", "intersects") else one)
    if draw(st.booleans()):
        return {"field": field, "operator": operator, "value": value}
    listed = value if isinstance(value, list) else [value]
    op = "isInList" if operator == "in" else operator
    return {"fields": [field], "op": op, "valuesJson": json.dumps(listed)}


def filters(created: list[str]) -> st.SearchStrategy[list[dict[str, Any]]]:
    either = st.lists(leaf(created), min_size=1, max_size=3).map(lambda inner: {"op": "or", "subFilters": inner})
    return st.lists(st.one_of(leaf(created), leaf(created), either), min_size=1, max_size=3)


SORT_FIELDS = ["createdAt", "createdAt", "status", "runCount", "threadId", "id", "updatedAt", "lastRun", "prompt", "error",
               "parameters.textToText.temperature", "parameters.textToText.stop", "sync"]  # fmt: skip
orders = st.lists(st.fixed_dictionaries({"field": st.sampled_from(SORT_FIELDS), "desc": st.booleans()}), max_size=3)


def plainly(document: Mapping[str, Any], condition: Mapping[str, Any]) -> bool:
    """What a filter means, written down without a thought of speed or of the code under test."""
    if condition.get("op") == "or":
        return any(plainly(document, inner) for inner in condition["subFilters"])
    field = condition.get("field") or condition["fields"][0]
    operator = condition.get("operator") or condition["op"]
    values = json.loads(condition["valuesJson"]) if "valuesJson" in condition else condition["value"]
    values = values if isinstance(values, list) else [values]
    found: Any = document
    for part in field.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    if operator in ("equals", "notEquals"):
        is_equal = values[0] in found if isinstance(found, list) else found == values[0]
        return is_equal == (operator == "equals")
    if operator in ("in", "isInList"):
        return found in values
    if operator == "intersects":
        return isinstance(found, list) and bool({*found} & {*values})
    if found is None or values[0] is None:
        return False
    if operator == "containsSubstring":
        return values[0] in found
    if operator == "startsWith":
        return bool(found.startswith(values[0]))
    compared = {"gt": found > values[0], "gte": found >= values[0], "lt": found < values[0], "lte": found <= values[0]}
    return bool(compared[operator])


def plainly_sorted(documents: list[Mapping[str, Any]], order: list[dict[str, Any]]) -> list[Mapping[str, Any]]:
    """Stable sorts from the last key to the first, beginning with the oldest first."""
    documents = sorted(documents, key=lambda d: d["createdAt"])

    def key(field: str, document: Mapping[str, Any]) -> tuple[int, Any]:
        found: Any = document
        for part in field.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        return (0, 0) if found is None else (1, json.dumps(found)) if isinstance(found, list) else (1, found)

    for sort_key in reversed(order):
        documents = sorted(documents, key=partial(key, sort_key["field"]), reverse=sort_key["desc"])
    return documents


def test_every_query_finds_what_a_plain_evaluation_finds(redis_url: str) -> None:
    """Through all pages, in order, with an exact count; for a user, and for an admin who is not shown the texts of others."""
    loop = asyncio.new_event_loop()
    store = Store(redis_url)
    made = loop.run_until_complete(populate(store))
    assert {prompt.status for prompt in made} == set(Status)
    created = [wire.timestamp(prompt.created_us) for prompt in made]

    @settings(max_examples=250, suppress_health_check=list(HealthCheck))
    @given(filters(created), orders, st.integers(1, 15), st.sampled_from([None, "ann", "bob"]))
    def check(wanted: list[dict[str, Any]], order: list[Any], limit: int, user: str | None) -> None:
        # Texts of others: an admin is "ann" and lists everybody's.
        show = as_seen_by(user or "ann")
        documents = [show(prompt) for prompt in made if user in (None, prompt.user_id)]
        right = plainly_sorted([d for d in documents if all(plainly(d, one) for one in wanted)], order)
        raw = {"filters": wanted, "orderBy": order, "limit": limit, "count": True}
        found = loop.run_until_complete(pages(store.listing(), raw, user_id=user, show=show))
        assert [(show(p)["userId"], p.id) for page in found for p in page.prompts] == [
            (d["userId"], d["id"]) for d in right
        ]
        assert {page.count for page in found} == {len(right)}
        assert not any(page.is_count_partial or page.is_truncated for page in found)
        assert all(len(page.prompts) == limit for page in found[:-1])
        # A cursor if and only if there is more.
        assert len(found) == max(1, -(-len(right) // limit))

    check()
    loop.run_until_complete(store.client.aclose())
    loop.close()


# -- while prompts are added and move ----------------------------------------------------------------------------------------

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
    before = [(await store.accept("ann", f"p{n:03}", "busy")).id for n in range(60)]
    listing, reading = store.listing(), True

    async def mutate() -> int:
        added = 0
        while reading:
            await store.accept("ann", f"q{added:05}", "busy")
            added += 1
            for outcome in ("hand back", "finish", "retry", "leave"):
                await store.run(1, outcome)
        return added

    mutating = asyncio.create_task(mutate())
    found = await pages(listing, {**MOVING[name], "limit": 3}, user_id=user_id)
    reading = False
    assert await mutating > 3
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


# -- bounds -----------------------------------------------------------------------------------------------------------------

LOOKED_THROUGH = {"filters": [{"field": "maxRetries", "operator": "equals", "value": 1}], "limit": 10, "count": True}


async def _thousand(store: Store) -> None:
    for number in range(100):
        await store.accept("ann", f"p{number:03}", max_retries=int(number % 25 == 24))


async def test_a_listing_that_reaches_its_bounds_says_so_and_goes_on(store: Store) -> None:
    await _thousand(store)
    found = await pages(store.listing(rows=40), LOOKED_THROUGH, user_id="ann")
    assert ids(found) == ["p024", "p049", "p074", "p099"]
    assert [page.is_truncated for page in found] == [True, True, False]
    assert [page.count for page in found] == [2, 2, 2]  # of the newest 40
    assert all(page.is_count_partial for page in found)


async def test_a_sorted_listing_that_reaches_its_bounds_sorts_what_it_looked_at_and_goes_on(store: Store) -> None:
    await _thousand(store)
    order = [{"field": "maxRetries", "desc": True}, {"field": "id"}]
    found = await pages(store.listing(rows=40), {"orderBy": order, "limit": 25}, user_id="ann")
    names = [f"p{n:03}" for n in range(100)]
    window = lambda numbers: sorted(numbers, key=lambda n: (n % 25 != 24, n))  # noqa: E731
    right = [*window(range(60, 100)), *window(range(20, 60)), *window(range(20))]
    assert ids(found) == [names[n] for n in right]
    assert [page.is_truncated for page in found] == [True, True, True, True, False]


async def test_a_listing_that_takes_too_long_says_so(store: Store) -> None:
    await _thousand(store)
    page = await store.listing(seconds=0.0001).page(parse_query(LOOKED_THROUGH), user_id="ann", show=wire.prompt_object)
    assert page.is_truncated
    assert page.after is not None


async def test_what_the_indexes_answer_is_counted_whatever_the_bounds(store: Store) -> None:
    await _thousand(store)
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
    ],
)
async def test_filters_on_texts_tell_an_admin_nothing_about_the_prompts_of_others(
    store: Store, condition: dict[str, Any]
) -> None:
    templates = {
        "parameters": {"textToText": {"template": "canary {prompt}"}},
        "engine_parameters": {"llamaCpp": {"template": "canary {prompt}"}},
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
