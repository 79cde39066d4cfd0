"""Subscriptions: order, resumption, several readers, heartbeats (DESIGN §3.5)."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx

from tests.e2e.conftest import HEARTBEAT_S, Connect
from tests.e2e.test_prompts import submit, until_status
from tests.sse import subscription, text_of
from tests.waiting import until_true

SHORT = {"textToText": {"temperature": 0, "maxTokens": 20}}


async def test_headers_come_at_once_and_heartbeats_while_nothing_happens(user: httpx.AsyncClient) -> None:
    began = time.monotonic()
    async with subscription(user, "future thread/with a slash") as stream:
        assert time.monotonic() - began < 1
        events = stream.events()
        pending = asyncio.ensure_future(anext(events))

        async def greeted_and_two_heartbeats() -> bool:
            return stream.comments >= 3

        await until_true(greeted_and_two_heartbeats, timeout_s=10 * HEARTBEAT_S)
        assert not pending.done()
        pending.cancel()


async def test_a_reader_who_subscribes_before_the_prompt_sees_all_of_it(user: httpx.AsyncClient) -> None:
    async with subscription(user, "early") as stream:
        prompt_id = (await submit(user, threadId="early", parameters=SHORT))["prompt"]["id"]
        events = await stream.until_end()
    assert [event.data["type"] for event in events[:-1]] == ["progress"] * (len(events) - 1)
    assert events[-1].data["type"] == "done"
    assert {event.data["promptId"] for event in events} == {prompt_id}


async def test_resuming_from_every_event_gives_exactly_the_rest(user: httpx.AsyncClient) -> None:
    async with subscription(user, "resumable") as stream:
        await submit(user, "List five fruits with emoji.", threadId="resumable", parameters=SHORT)
        events = await stream.until_end()
    assert len(events) > 5
    for k in range(len(events) - 1):
        async with subscription(user, "resumable", last_event_id=events[k].id) as stream:
            assert await stream.until_end(timeout_s=10) == events[k + 1 :]


async def test_two_readers_see_the_same(user: httpx.AsyncClient) -> None:
    async with subscription(user, "shared") as one, subscription(user, "shared") as two:
        await submit(user, threadId="shared", parameters=SHORT)
        seen = await asyncio.gather(one.until_end(), two.until_end())
    assert seen[0] == seen[1]


async def test_a_late_reader_gets_the_unfinished_answer_from_its_beginning(user: httpx.AsyncClient) -> None:
    async with subscription(user, "late") as early:
        long = {"textToText": {"temperature": 0, "maxTokens": 60}}
        await submit(user, "Tell me a story.", threadId="late", parameters=long)
        first = await anext(early.events())
        async with subscription(user, "late") as late:
            seen = await late.until_end()
    assert seen[0] == first


async def test_a_thread_shows_its_answers_one_after_another(user: httpx.AsyncClient) -> None:
    async with subscription(user, "ordered") as stream:
        long, short = ({"textToText": {"temperature": 0, "maxTokens": n}} for n in (40, 2))
        first = asyncio.create_task(submit(user, "Tell me a story.", threadId="ordered", sync=True, parameters=long))
        await until_true(lambda: _ids(user, "ordered"))
        second = asyncio.create_task(submit(user, threadId="ordered", sync=True, parameters=short))
        events = await stream.until_end(ends=2)
        answers = [await first, await second]
    order = [event.data["promptId"] for event in events]
    assert order == sorted(order, key=[a["prompt"]["id"] for a in answers].index)
    for answer in answers:
        own = [event for event in events if event.data["promptId"] == answer["prompt"]["id"]]
        assert text_of(own) == answer["responseMessage"]["text"]


async def _ids(client: httpx.AsyncClient, thread_id: str) -> list[Any]:
    filters = [{"field": "threadId", "operator": "equals", "value": thread_id}]
    response = await client.post("/prompt-svc/prompts", json={"query": {"filters": filters}})
    return [row["id"] for row in response.json()["prompts"]]


async def test_nobody_hears_another_users_thread_of_the_same_name(new_user: Connect) -> None:
    alice, bob = await new_user(), await new_user()
    async with subscription(bob, "secret") as spy:
        await submit(alice, threadId="secret", sync=True, parameters=SHORT)
        await submit(bob, threadId="secret", parameters=SHORT)
        heard = await spy.until_end()
    own = await _ids(bob, "secret")
    assert {event.data["promptId"] for event in heard} == set(own)


async def test_an_invalid_last_event_id_is_refused(user: httpx.AsyncClient) -> None:
    response = await user.get("/prompt-svc/prompts/t/responses/subscribe", headers={"Last-Event-ID": "x; drop"})
    assert response.status_code == 400
    assert "Last-Event-ID" in response.json()["error"]


async def test_the_end_of_a_reader_does_not_end_the_prompt(user: httpx.AsyncClient) -> None:
    async with subscription(user, "left") as stream:
        prompt = (await submit(user, threadId="left", parameters=SHORT))["prompt"]
        await anext(stream.events())
    await until_status(user, prompt["id"], "completed")
