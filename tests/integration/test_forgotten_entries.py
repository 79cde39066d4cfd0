"""A store that comes back without its last writes: no log gets a gap or an entry twice, and no answer differs from its log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from deployments.replica.outcome import Outcome
from deployments.tasks import Supervisor
from pipeline.delta import Delta, DeltaKind, FinishReason
from pipeline.errors import LogForgotten
from pipeline.prompt import NewPrompt
from pipeline.states import Status
from pipeline.store.attempts import Written
from pipeline.store.connection import connect_patient
from pipeline.store.logs import LogReader, decode_page
from tests.integration.queue_store import LONG_S, QueueStore, text_runner
from tests.unit.replicas import HandDriven, within
from tests.waiting import until_true

MODEL = "m"
END = Delta(kind=DeltaKind.END, finish_reason=FinishReason.STOP)


class Store(QueueStore):
    ref = "ann/p"

    async def grant(self) -> int:
        """The fence of another attempt."""
        (grant,) = await self.queue.grant(1, LONG_S)
        return grant.fence

    async def append(self, fence: int, number: int, text: str) -> Written:
        (written,) = await self.attempts.append([(self.ref, fence, number, Delta(text=text))])
        return written

    async def forget_down_to(self, entries: int) -> None:
        log = self.keys.log(self.ref)
        kept = (await self.client.xrange(log))[:entries]
        await self.client.delete(log)
        for entry_id, fields in kept:
            await self.client.xadd(log, fields, id=entry_id)
        await self.client.hset(self.keys.prompt(self.ref), "entries", entries)

    async def texts(self) -> list[str]:
        (page,) = await LogReader(self.client, self.keys).read([(self.ref, 0)])
        return [entry.delta.text for entry in decode_page(page)]

    async def answer(self) -> str:
        message_id = (await self.prompts.get("ann", "p")).message_id
        return (await self.client.hget(self.keys.message(f"ann/{message_id}"), "text")).decode()


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    """With one prompt, and a replica for it."""
    client = connect_patient(redis_url)
    made = Store.on(client, MODEL)
    await made.attempts.register(MODEL, "r1", permits=4, node="n1", lease_s=LONG_S)
    await made.prompts.accept(
        NewPrompt(id="p", user_id="ann", thread_id="t", model_id=MODEL, prompt="hi", prompt_token_ids=(1,))
    )
    yield made
    await client.aclose()


async def test_an_entry_behind_a_gap_is_refused_however_often_it_is_sent(store: Store) -> None:
    fence = await store.grant()
    await store.attempts.claim(store.ref, fence, replica="r1", lease_s=LONG_S, fingerprint="f")
    for number, text in enumerate("abcd", 1):
        assert await store.append(fence, number, text) is Written.DONE
    await store.forget_down_to(2)
    assert [await store.append(fence, 5, "e") for _ in range(2)] == [Written.FORGOTTEN] * 2
    assert await store.texts() == ["a", "b"]
    assert await store.append(fence, 2, "b") is Written.DONE  # sent again
    assert await store.texts() == ["a", "b"]


async def test_an_answer_is_not_recorded_on_a_log_that_lacks_some_of_it(store: Store) -> None:
    fence = await store.grant()
    await store.attempts.claim(store.ref, fence, replica="r1", lease_s=LONG_S, fingerprint="f")
    for number, text in enumerate("abcd", 1):
        await store.append(fence, number, text)
    await store.forget_down_to(2)
    with pytest.raises(LogForgotten):
        await store.attempts.finish(store.ref, fence, message_id="msg", text="abcd", meta_json="{}", end=END, entries=4)
    assert (await store.prompts.get("ann", "p")).status is Status.RUNNING
    assert await store.client.exists(store.keys.message("ann/msg")) == 0


@pytest.fixture
async def supervisor() -> AsyncIterator[Supervisor]:
    supervisor = Supervisor()
    yield supervisor
    await supervisor.stop()


@pytest.mark.parametrize("last", [Delta(text="e", token_ids=(5,)), END], ids=["with an entry", "with the end"])
async def test_the_attempt_is_handed_back_and_the_next_goes_on_from_what_is_stored(
    store: Store, supervisor: Supervisor, last: Delta
) -> None:
    engine = HandDriven()
    replica = text_runner(store.attempts, engine, supervisor, model_id=MODEL)
    first = asyncio.create_task(replica.run(store.ref, await store.grant(), False))
    for number, text in enumerate("abcd", 1):
        engine.steps.put_nowait(Delta(text=text, token_ids=(number,)))

        async def is_written(upto: str = "abcd"[:number]) -> bool:
            return "".join(await store.texts()) == upto

        await until_true(is_written, what=text)
    await store.forget_down_to(2)
    engine.steps.put_nowait(last)
    assert await within(first) is Outcome.STALE
    prompt = await store.prompts.get("ann", "p")
    assert (prompt.status, prompt.runs, prompt.failures, prompt.crashes) == (Status.SCHEDULED, 0, 0, 0)
    assert replica.permits_used == 0

    second = asyncio.create_task(replica.run(store.ref, await store.grant(), False))
    engine.steps.put_nowait(Delta(text="c", token_ids=(3,)))
    engine.steps.put_nowait(END)
    assert await within(second) is Outcome.ENDED
    assert engine.requests[1].logged_token_ids == (1, 2)
    assert "".join(await store.texts()) == await store.answer() == "abc"
