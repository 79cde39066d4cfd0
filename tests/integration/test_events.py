"""The events of a user's prompts and chats, written by the scripts of the transitions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from redis.asyncio import Redis

from deployments.ingress import hub as hub_module
from deployments.ingress.events import MISSED, begin, follow
from deployments.ingress.hub import Hub
from deployments.tasks import Supervisor
from pipeline.delta import Delta, DeltaKind, FinishReason
from pipeline.prompt import NewPrompt
from pipeline.store.attempts import AttemptStore
from pipeline.store.events import BEGINNING, WINDOW_S, EventId, EventLog
from pipeline.store.keys import Keys
from pipeline.store.prompts import PromptStore
from pipeline.store.queue import Grant, ModelQueue
from pipeline.store.threads import ThreadStore

KEYS = Keys("test")
END = Delta(kind=DeltaKind.END, finish_reason=FinishReason.STOP)
CANARY = "canary-77aa"


class Store:
    """The store's parts around one client, and a prompt's way through them."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        self.events = EventLog(client, KEYS)
        self.prompts = PromptStore(client, KEYS)
        self.threads = ThreadStore(client, KEYS, self.prompts)
        self.attempts = AttemptStore(client, KEYS)
        self.queue = ModelQueue(client, KEYS, "m")

    async def accept(self, prompt_id: str, user: str = "u") -> str:
        new = NewPrompt(id=prompt_id, user_id=user, thread_id="t", model_id="m", prompt=CANARY, prompt_token_ids=(1,))
        await self.prompts.accept(new)
        return new.ref

    async def claim(self) -> Grant:
        await self.attempts.register("m", "r", permits=1, node="n", lease_s=100)
        (grant,) = await self.queue.grant(1, 100)
        await self.attempts.claim(grant.ref, grant.fence, replica="r", lease_s=100, fingerprint="f")
        return grant

    async def finish(self, grant: Grant) -> None:
        await self.attempts.finish(grant.ref, grant.fence, message_id="a", text=CANARY, meta_json="{}", end=END)

    async def told(self, user: str = "u") -> list[tuple[str, dict[str, str]]]:
        return [(event.name, dict(event.data)) for event in await self.events.behind(user, BEGINNING)]

    async def told_of_prompts(self) -> list[tuple[str, dict[str, str]]]:
        return [(name, data) for name, data in await self.told() if "promptId" in data]


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    client = Redis.from_url(redis_url)
    yield Store(client)
    await client.aclose()


async def test_the_way_of_a_prompt(store: Store) -> None:
    assert not await store.events.listen("u")
    ref = await store.accept("p")
    await store.accept("p")  # the same id again is nothing new
    grant = await store.claim()
    await store.attempts.claim(grant.ref, grant.fence, replica="r", lease_s=100, fingerprint="f")  # its reply was lost
    await store.finish(grant)
    await store.finish(grant)
    await store.prompts.erase(ref)
    assert await store.told() == [
        ("chatThreadAdded", {"threadId": "t"}),
        ("chatMessageAdded", {"threadId": "t"}),
        ("promptAdded", {"promptId": "p"}),
        ("promptProcessingStarted", {"promptId": "p"}),
        ("chatMessageAdded", {"threadId": "t"}),
        ("promptProcessingFinished", {"promptId": "p"}),
        ("promptRemoved", {"promptId": "p"}),
    ]


async def test_attempts_without_a_result_say_why(store: Store) -> None:
    await store.events.listen("u")
    await store.accept("p")
    grant = await store.claim()
    await store.attempts.retry_later(grant.ref, grant.fence, error="out of blocks", delay_s=0)
    await store.queue.sweep(["n"])
    grant = await store.claim()
    await store.attempts.hand_back(grant.ref, grant.fence, replica="r")
    grant = await store.claim()
    await store.attempts.lose(grant.ref, grant.fence, node="n")
    grant = await store.claim()
    await store.prompts.cancel(grant.ref)
    started = ("promptProcessingStarted", {"promptId": "p"})

    def finished(error: str) -> tuple[str, dict[str, str]]:
        return "promptProcessingFinished", {"promptId": "p", "error": error}

    assert (await store.told_of_prompts())[1:] == [
        started,
        finished("out of blocks"),
        started,
        finished("handed back; the prompt waits for another replica"),
        started,
        finished("the replica that ran this prompt died"),
        started,
        finished("canceled"),
        ("promptRemoved", {"promptId": "p"}),
    ]


async def test_a_prompt_that_is_cancelled_while_it_waits_was_never_processed(store: Store) -> None:
    await store.events.listen("u")
    await store.prompts.cancel(await store.accept("p"))
    assert [name for name, _ in await store.told_of_prompts()] == ["promptAdded", "promptRemoved"]


async def test_nothing_is_written_for_users_who_do_not_listen(store: Store) -> None:
    await store.events.listen("u")
    await store.accept("p", user="other")
    await store.finish(await store.claim())
    assert await store.client.keys(f"{KEYS.events('')}*") == []
    assert await store.told("u") == []


async def test_events_hold_no_text_of_the_prompt(store: Store) -> None:
    await store.events.listen("u")
    await store.accept("p")
    await store.finish(await store.claim())
    assert CANARY not in str(await store.told())
    assert len(await store.told()) == 6


async def test_events_are_forgotten_when_nobody_has_listened_for_the_window(store: Store) -> None:
    await store.events.listen("u")
    await store.accept("p")
    for key in (KEYS.listening("u"), KEYS.events("u")):
        assert 0 < await store.client.ttl(key) <= WINDOW_S
    await store.client.expire(KEYS.events("u"), 1)
    assert await store.events.listen("u")
    assert await store.client.ttl(KEYS.events("u")) > 1
    await store.client.delete(KEYS.listening("u"))
    await store.accept("q")
    assert [data["promptId"] for _, data in await store.told_of_prompts()] == ["p"]


async def test_the_number_of_events_is_bounded(store: Store) -> None:
    await store.events.listen("u")
    for number in range(600):
        await store.prompts.cancel(await store.accept(f"p{number}"))
    kept = await store.client.xlen(KEYS.events("u"))
    assert 1000 <= kept < 1200
    bounds = await store.events.bounds("u")
    assert bounds is not None
    oldest, latest = bounds
    assert oldest.after is not None
    assert BEGINNING < oldest.after < oldest.id < latest.id


async def test_events_are_read_behind_a_position(store: Store) -> None:
    await store.events.listen("u")
    assert await store.events.bounds("u") is None
    for number in range(3):
        await store.threads.save("u", f"t{number}", default_title="")
    first, second, third = await store.events.behind("u", BEGINNING)
    assert await store.events.bounds("u") == (first, third)
    assert [event.after for event in (first, second, third)] == [BEGINNING, first.id, second.id]
    assert await store.events.behind("u", first.id) == [second, third]
    assert await store.events.behind("u", first.id, count=1) == [second]
    assert await store.events.behind("u", EventId(2**63, 0)) == []


async def test_a_subscription_hears_what_the_scripts_write(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "LOOK_ANYWAY_S", 60)
    supervisor = Supervisor()
    hub = Hub(store.client, KEYS, supervisor)
    start = await begin(store.events, "u", None)
    async with asyncio.timeout(10), aclosing(follow(store.events, hub, "u", start)) as events:
        await store.threads.save("u", "t", default_title="")
        first = await anext(events)
        following = asyncio.ensure_future(anext(events))
        await store.threads.save("other", "t", default_title="")
        await store.accept("p")
        seen = [first, await following, await anext(events)]
    assert [event.name for event in seen] == ["chatThreadAdded", "chatMessageAdded", "promptAdded"]
    resumed = await begin(store.events, "u", first.id)
    async with asyncio.timeout(10), aclosing(follow(store.events, hub, "u", resumed)) as events:
        assert [await anext(events), await anext(events)] == seen[1:]
    await supervisor.stop()


async def test_a_subscription_that_falls_behind_is_told(store: Store) -> None:
    supervisor = Supervisor()
    hub = Hub(store.client, KEYS, supervisor)
    start = await begin(store.events, "u", None)
    async with asyncio.timeout(10), aclosing(follow(store.events, hub, "u", start)) as events:
        await store.threads.save("u", "t0", default_title="")
        await anext(events)
        for number in range(1, 5):
            await store.threads.save("u", f"t{number}", default_title="")
        # As after a thousand.
        await store.client.xtrim(KEYS.events("u"), maxlen=2, approximate=False)
        seen = [await anext(events) for _ in range(3)]
    assert [event.data.get("threadId", event.name) for event in seen] == [MISSED, "t3", "t4"]
    resumed = await begin(store.events, "u", seen[0].id)
    async with asyncio.timeout(10), aclosing(follow(store.events, hub, "u", resumed)) as events:
        assert [await anext(events) for _ in range(2)] == seen[1:]
    await supervisor.stop()
