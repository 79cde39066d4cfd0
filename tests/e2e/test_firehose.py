"""The firehose: a user's events as they happen (contract §1.6, §3)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.e2e.conftest import Connect
from tests.e2e.test_prompts import submit
from tests.sse import Event, Stream

PATH = "/firehose-svc/events/subscribe"
SHORT = {"textToText": {"temperature": 0, "maxTokens": 5}}


@asynccontextmanager
async def firehose(client: httpx.AsyncClient, *, last_event_id: str = "") -> AsyncIterator[Stream]:
    headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
    async with client.stream("GET", PATH, headers=headers, timeout=httpx.Timeout(10, read=None)) as response:
        assert response.status_code == 200, await response.aread()
        yield Stream(response)


async def take(stream: Stream, count: int) -> list[Event]:
    found: list[Event] = []
    async with asyncio.timeout(60):
        async for event in stream.events():
            found.append(event)
            if len(found) == count:
                break
    return found


def shown(events: list[Event]) -> list[tuple[str, dict[str, Any]]]:
    return [(event.data["name"], event.data["data"]) for event in events]


async def test_a_user_sees_what_happens_to_their_prompts_and_chats_and_nobody_elses(new_user: Connect) -> None:
    alice, bob = await new_user(), await new_user()
    async with firehose(alice) as stream, firehose(bob) as other:
        await submit(bob, id="of-bob", sync=True, parameters=SHORT)
        await submit(alice, id="a", sync=True, parameters=SHORT)
        await alice.delete("/prompt-svc/prompt/a")
        events = await take(stream, 7)
        # A thread that a prompt makes has its id.
        assert {value for _, data in shown(await take(other, 6)) for value in data.values()} == {"of-bob"}
    prompt, thread = {"promptId": "a"}, {"threadId": "a"}
    assert shown(events) == [
        ("chatThreadAdded", thread),
        ("chatMessageAdded", thread),
        ("promptAdded", prompt),
        ("promptProcessingStarted", prompt),
        ("chatMessageAdded", thread),
        ("promptProcessingFinished", prompt),
        ("promptRemoved", prompt),
    ]
    for index in range(6):
        async with firehose(alice, last_event_id=events[index].id) as stream:
            assert await take(stream, 6 - index) == events[index + 1 :]


async def test_a_failed_attempt_says_why(user: httpx.AsyncClient) -> None:
    async with firehose(user) as stream:
        await submit(user, id="f", sync=True, modelId="test/broken")
        events = await take(stream, 5)
    name, data = shown(events)[-1]
    assert (name, data["promptId"]) == ("promptProcessingFinished", "f")
    assert data["error"]


async def test_an_event_of_long_ago_cannot_be_resumed_behind(user: httpx.AsyncClient) -> None:
    async with firehose(user, last_event_id="1-1") as stream:
        assert shown(await take(stream, 1)) == [("eventsMissed", {})]


async def test_there_are_no_events_without_a_token(anonymous: httpx.AsyncClient) -> None:
    response = await anonymous.get(PATH)
    assert (response.status_code, response.json()) == (401, {"error": "Unauthorized"})
