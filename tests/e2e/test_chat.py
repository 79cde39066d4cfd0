"""chat-svc and conversations on the real app: threads, messages, events, and what the real model is given of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.engines.rendering import PromptRenderer
from deployments.engines.scripted import CONTEXT_TOKENS, ScriptedRenderer, expected_answer
from deployments.local.embedded_model import ensure
from pipeline.engine import SamplingParameters
from tests.e2e.conftest import Connect
from tests.e2e.test_prompts import GREEDY, listed, status_of, submit, until_status
from tests.sse import Event, Stream, subscription, text_of

SHORT = {"textToText": {"maxTokens": 20}}


async def made_thread(client: httpx.AsyncClient, **fields: Any) -> str:
    response = await client.post("/chat-svc/thread", json={"threadData": {"title": "AI Assistant Chat", **fields}})
    assert response.status_code == 200, response.text
    return str(response.json()["thread"]["id"])


async def messages_of(client: httpx.AsyncClient, thread_id: str) -> list[dict[str, Any]]:
    response = await client.post(f"/chat-svc/thread/{thread_id}/messages")
    assert response.status_code == 200, response.text
    return list(response.json()["messages"])


async def post(client: httpx.AsyncClient, thread_id: str, text: str, **fields: Any) -> None:
    response = await client.post(f"/chat-svc/thread/{thread_id}/message", json={"text": text, **fields})
    assert response.status_code == 200, response.text


@pytest.fixture(scope="module")
def renderer(models_dir: Path) -> PromptRenderer:
    return PromptRenderer(ensure(models_dir))


def rendered(renderer: PromptRenderer, messages: list[dict[str, Any]]) -> int:
    """Tokens of a conversation, from the messages as chat-svc lists them."""
    return len(
        renderer.render_chat(
            [{"role": "user" if "userId" in m else "assistant", "content": m["text"]} for m in messages]
        )
    )


async def test_the_documents_chat_example(user: httpx.AsyncClient) -> None:
    response = await user.post("/chat-svc/thread", json={"threadData": {"title": "AI Assistant Chat"}})
    thread = response.json()["thread"]
    assert thread["title"] == "AI Assistant Chat"
    body = {"prompt": "Hello! Can you help me learn Python?", "threadId": thread["id"], "sync": False}
    prompt = (await user.post("/prompt-svc/prompt", json={**body, "parameters": GREEDY})).json()["prompt"]
    await until_status(user, prompt["id"], "completed")
    asked, answered = await messages_of(user, thread["id"])
    assert (asked["text"], asked["id"]) == (body["prompt"], prompt["id"])
    assert answered["text"]
    assert "userId" not in answered
    assert (await user.get(f"/chat-svc/thread/{thread['id']}/messages")).json()["messages"] == [asked, answered]
    assert [t["id"] for t in (await user.post("/chat-svc/threads")).json()["threads"]] == [thread["id"]]


async def test_the_second_turn_gives_the_model_the_first(user: httpx.AsyncClient, renderer: PromptRenderer) -> None:
    thread = await made_thread(user)
    await submit(user, "My name is Ada. Remember it.", threadId=thread, sync=True)
    second = (await submit(user, "What is my name?", threadId=thread, sync=True))["responseMessage"]
    said = await messages_of(user, thread)
    assert [("userId" in message) for message in said] == [True, False, True, False]
    assert second["meta"]["promptTokens"] == rendered(renderer, said[:3])
    alone = await submit(user, "What is my name?", threadId=thread, sync=True, history=False)
    assert alone["responseMessage"]["meta"]["promptTokens"] == rendered(renderer, [said[2]])


async def test_prompts_submitted_together_hear_each_others_answers(
    user: httpx.AsyncClient, renderer: PromptRenderer
) -> None:
    thread = await made_thread(user)
    async with subscription(user, thread) as stream:
        ids = [(await submit(user, f"Count to {n}.", threadId=thread))["prompt"]["id"] for n in (3, 4, 5)]
        events = await stream.until_end(ends=3)
    said = await messages_of(user, thread)
    assert [message["id"] for message in said[::2]] == ids
    assert [message["meta"]["promptTokens"] for message in said[1::2]] == [
        rendered(renderer, said[:upto]) for upto in (1, 3, 5)
    ]
    assert text_of(events) == "".join(message["text"] for message in said[1::2])


async def test_a_thread_that_a_prompt_made_has_no_history_unless_asked_for(
    user: httpx.AsyncClient, renderer: PromptRenderer
) -> None:
    for _ in range(2):
        answer = await submit(user, threadId="ad hoc", sync=True)
        said = await messages_of(user, "ad hoc")
        assert answer["responseMessage"]["meta"]["promptTokens"] == rendered(renderer, said[:1])
    answer = await submit(user, threadId="ad hoc", sync=True, history=True)
    said = await messages_of(user, "ad hoc")
    assert answer["responseMessage"]["meta"]["promptTokens"] == rendered(renderer, said[:5])


async def test_history_is_cut_to_the_context_by_whole_turns(user: httpx.AsyncClient) -> None:
    thread = await made_thread(user)
    for n in range(20):
        await post(user, thread, f"Question {n}: " + "word " * 70)
        await post(user, thread, f"Answer {n}", role="assistant")
    # Its ids are bytes, its context CONTEXT_TOKENS of them; it succeeds at its third attempt, with what the first one got.
    answer = await submit(user, "And now?", threadId=thread, modelId="test/flaky", sync=True, parameters=SHORT)
    said = await messages_of(user, thread)
    heard = [{"role": "user" if "userId" in m else "assistant", "content": m["text"]} for m in said[:-1]]
    render, budget = ScriptedRenderer().render_chat, CONTEXT_TOKENS - SHORT["textToText"]["maxTokens"]
    fitting = [ids for turn in range(20) if len(ids := render(heard[2 * turn :])) <= budget]
    assert 0 < len(fitting) < 20
    assert answer["responseMessage"]["meta"]["promptTokens"] == len(fitting[0])
    assert answer["responseMessage"]["text"] == expected_answer(fitting[0], SamplingParameters(max_tokens=20))[0]


async def test_a_thread_goes_on_over_retries_cancels_and_failures(user: httpx.AsyncClient) -> None:
    """The scripted engine's answer is a function of all it was given, so the answer shows the history."""
    thread = await made_thread(user)
    broken = await submit(user, "one", threadId=thread, modelId="test/broken", parameters=SHORT)
    slow = await submit(user, "two", threadId=thread, modelId="test/slow", parameters=SHORT)
    flaky = await submit(user, "three", threadId=thread, modelId="test/flaky", parameters=SHORT)
    last = await submit(user, "four", threadId=thread, modelId="test/flaky", parameters=SHORT)
    await until_status(user, broken["prompt"]["id"], "abandoned")
    await until_status(user, slow["prompt"]["id"], "running")
    for waiting in (flaky, last):
        assert await status_of(user, waiting["prompt"]["id"]) == "scheduled"
    assert (await user.delete(f"/prompt-svc/prompt/{slow['prompt']['id']}")).status_code == 200
    await until_status(user, last["prompt"]["id"], "completed")
    said = await messages_of(user, thread)
    assert [message["text"] for message in said if "userId" in message] == ["one", "two", "three", "four"]
    answers = [message for message in said if "userId" not in message]
    render, sampling = ScriptedRenderer().render_chat, SamplingParameters(max_tokens=20)
    heard = [{"role": "user", "content": "three"}]
    first, _ = expected_answer(render(heard), sampling)
    heard += [{"role": "assistant", "content": first}, {"role": "user", "content": "four"}]
    second, _ = expected_answer(render(heard), sampling)
    assert [message["text"] for message in answers] == [first, second]
    rows = (await listed(user, "id", "equals", flaky["prompt"]["id"]))["prompts"]
    assert rows[0]["runCount"] == 3


async def test_deleting_a_thread_stops_and_erases_all_of_it(user: httpx.AsyncClient, store: Any) -> None:
    thread = await made_thread(user)
    canary = "canary-of-a-deleted-thread"
    await post(user, thread, f"{canary} by hand")
    ids = [
        (await submit(user, f"{canary} {n}", threadId=thread, modelId="test/slow"))["prompt"]["id"] for n in range(3)
    ]
    await until_status(user, ids[0], "running")
    assert [await status_of(user, prompt_id) for prompt_id in ids[1:]] == ["scheduled"] * 2
    response = await user.delete(f"/chat-svc/thread/{thread}")
    assert (response.status_code, response.text) == (200, "{}")
    assert [await status_of(user, prompt_id) for prompt_id in ids] == [None] * 3
    assert (await user.get(f"/chat-svc/thread/{thread}")).status_code == 404
    assert (await user.post("/chat-svc/threads")).json() == {"threads": []}
    for key in store.scan_iter(count=1000):
        value = store.hgetall(key) if store.type(key) == b"hash" else {}
        assert canary not in str(value)


async def test_another_user_sees_nothing_of_it(new_user: Connect) -> None:
    alice, bob = await new_user(), await new_user()
    thread = await made_thread(alice, id="shared-name")
    await post(alice, thread, "secret", id="note")
    for method, path, body in (
        ("GET", f"/thread/{thread}", None),
        ("DELETE", f"/thread/{thread}", None),
        ("GET", f"/thread/{thread}/messages", None),
        ("POST", f"/thread/{thread}/messages", {}),
        ("POST", f"/thread/{thread}/message", {"text": "intruder"}),
        ("DELETE", "/message/note", None),
    ):
        response = await bob.request(method, f"/chat-svc{path}", json=body)
        assert (response.status_code, response.json()) == (404, {"error": "Not Found"}), path
    for body in ({}, {"threadId": thread}, {"ids": ["note"]}):
        assert (await bob.post("/chat-svc/messages", json=body)).json() == {"messages": []}
    assert (await bob.post("/chat-svc/threads", json={"ids": [thread]})).json() == {"threads": []}
    # A thread of that name of Bob's own is another one.
    assert await made_thread(bob, id=thread) == thread
    assert await messages_of(bob, thread) == []
    assert [message["text"] for message in await messages_of(alice, thread)] == ["secret"]


@asynccontextmanager
async def chat_events(
    client: httpx.AsyncClient, path: str, *, last_event_id: str = ""
) -> AsyncIterator[AsyncIterator[Event]]:
    headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
    async with client.stream("GET", path, headers=headers, timeout=httpx.Timeout(10, read=None)) as response:
        assert response.status_code == 200, await response.aread()
        yield Stream(response).events()


@pytest.mark.parametrize("path", ["/chat-svc/events", "/chat-svc/evens"])
async def test_events_are_the_callers_own(new_user: Connect, path: str) -> None:
    alice, bob = await new_user(), await new_user()
    async with chat_events(alice, path) as events:
        await made_thread(bob)
        thread = await made_thread(alice)
        await submit(alice, threadId=thread, sync=True)
        async with asyncio.timeout(20):
            heard = [await anext(events) for _ in range(3)]
    assert [event.data for event in heard] == [
        {"name": name, "data": {"threadId": thread}}
        for name in ("chatThreadAdded", "chatMessageAdded", "chatMessageAdded")
    ]
    async with chat_events(alice, path, last_event_id=heard[0].id) as events, asyncio.timeout(20):
        assert [await anext(events) for _ in range(2)] == heard[1:]


async def test_events_need_a_token(anonymous: httpx.AsyncClient) -> None:
    response = await anonymous.get("/chat-svc/events")
    assert (response.status_code, json.loads(response.text)) == (401, {"error": "Unauthorized"})
