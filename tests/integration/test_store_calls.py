"""How calls reach the store: sharing a round trip, failing alone, ending when they are cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from deployments.tasks import Supervisor
from pipeline.errors import NotFound
from pipeline.prompt import NewPrompt
from pipeline.store.connection import connect_patient
from pipeline.store.keys import Keys
from pipeline.store.prompts import PromptStore
from pipeline.store.scripts import MOST_TOGETHER, Scripts

KEYS = Keys("test")


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    client = connect_patient(redis_url)
    yield client
    await client.aclose()


def a_prompt(name: str) -> NewPrompt:
    return NewPrompt(
        id=name, user_id="usr", thread_id="thr", model_id="m", prompt=f"say {name}", prompt_token_ids=(1, 2, 300)
    )


async def test_what_accept_answers_is_what_is_stored(client: Redis) -> None:
    store = PromptStore(client, KEYS)
    accepted = await store.accept(a_prompt("one"))
    assert accepted.is_new
    assert accepted.prompt == await store.get("usr", "one")
    again = await store.accept(a_prompt("one"))
    assert not again.is_new
    assert again.prompt == accepted.prompt


async def test_concurrent_calls_each_get_their_own_answer(client: Redis) -> None:
    store = PromptStore(client, KEYS)
    names = [f"p{i}" for i in range(3 * MOST_TOGETHER)]
    accepted = await asyncio.gather(*(store.accept(a_prompt(name)) for name in names))
    assert [one.prompt.id for one in accepted] == names
    assert sorted(one.prompt.place for one in accepted) == list(range(1, len(names) + 1))


async def test_concurrent_calls_survive_a_store_that_forgot_the_scripts(client: Redis) -> None:
    store = PromptStore(client, KEYS)
    await store.accept(a_prompt("first"))
    await client.script_flush()
    accepted = await asyncio.gather(*(store.accept(a_prompt(f"p{i}")) for i in range(10)))
    assert all(one.is_new for one in accepted)


async def test_a_call_that_fails_fails_alone(client: Redis) -> None:
    scripts, store = Scripts(client, "test"), PromptStore(client, KEYS)
    await store.accept(a_prompt("one"))
    answers = await asyncio.gather(
        scripts.run("cancel", "usr/none"),
        scripts.run("accept", "usr/two", "title"),  # without a record
        scripts.run("cancel", "usr/none"),
        scripts.run("cancel", "usr/one"),
        return_exceptions=True,
    )
    assert isinstance(answers[1], ResponseError)
    assert [answers[0][0], answers[2][0], answers[3][0]] == [b"missing", b"missing", b"canceled"]


async def test_a_cancelled_call_harms_no_other(client: Redis) -> None:
    store = PromptStore(client, KEYS)
    tasks = [asyncio.ensure_future(store.cancel(f"usr/none{i}")) for i in range(20)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results[::2])
    assert all(isinstance(result, NotFound) for result in results[1::2])


async def test_tasks_that_call_the_store_for_ever_end_when_they_are_cancelled(client: Redis) -> None:
    """redis-py loses cancellations on Python 3.11 (asyncio.wait_for)."""
    busy = asyncio.Event()

    async def call_for_ever() -> None:
        while True:
            if await client.incr("counter") > 100:
                busy.set()

    supervisor = Supervisor()
    for _ in range(5):
        supervisor.keep_running(call_for_ever, name="caller")
    await busy.wait()
    async with asyncio.timeout(10):
        await supervisor.stop()
