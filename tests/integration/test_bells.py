"""What a thread's bell carries is what its log keeps."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from pipeline.delta import Delta, DeltaKind, FinishReason
from pipeline.prompt import NewPrompt
from pipeline.store.attempts import AttemptStore
from pipeline.store.bells import Ring, listen
from pipeline.store.connection import connect_patient
from pipeline.store.keys import Keys
from pipeline.store.logs import LogReader, decode_page
from pipeline.store.prompts import PromptStore
from pipeline.store.queue import ModelQueue

KEYS = Keys("test")


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    client = connect_patient(redis_url)
    yield client
    await client.aclose()


async def test_rings_tell_of_the_prompt_its_entries_and_its_end(client: Redis) -> None:
    bells = listen(client, [KEYS.bell("usr/thr")])
    assert await anext(bells) is None
    attempts = AttemptStore(client, KEYS)
    await attempts.register("m", "replica", permits=1, node="n", lease_s=60)
    text = 'Grüße, "日本" / 🦜\\\n\t\x7f'
    prompt = NewPrompt(
        id="one", user_id="usr", thread_id="thr", model_id="m", prompt="say it", prompt_token_ids=(1, 2, 300)
    )
    await PromptStore(client, KEYS).accept(prompt)
    (grant,) = await ModelQueue(client, KEYS, "m").grant(1, 5)
    await attempts.claim(grant.ref, grant.fence, replica="replica", lease_s=60, fingerprint="f")
    await attempts.append([(grant.ref, grant.fence, 1, Delta(text=text, token_ids=(7, 300)))])
    end = Delta(kind=DeltaKind.END, text="!", token_ids=(9,), finish_reason=FinishReason.STOP)
    await attempts.finish(grant.ref, grant.fence, message_id="msg", text=text + "!", meta_json="{}", end=end)

    rings = []
    while not (rings and rings[-1].is_end):
        heard = await anext(bells)
        assert heard is not None
        rings.append(Ring.parse(heard[1]))
    await bells.aclose()  # type: ignore[attr-defined]
    assert {ring.place for ring in rings} == {1}
    (page,) = await LogReader(client, KEYS).read([(grant.ref, 0)])
    logged = decode_page(page)
    rung = [ring.entry for ring in rings if ring.entry is not None]
    assert [(entry.number, entry.delta.text, entry.message_id) for entry in rung] == [(1, text, ""), (2, "!", "msg")]
    assert [(e.number, e.delta.kind, e.delta.text, e.delta.finish_reason, e.message_id) for e in rung] == [
        (e.number, e.delta.kind, e.delta.text, e.delta.finish_reason, e.message_id) for e in logged
    ]
