"""What router, ledger and replica do together, in a task of the test: it grants, claims and answers prompts on a real store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from redis.asyncio import Redis

from pipeline.delta import Delta, DeltaKind, FinishReason
from pipeline.ids import new_id
from pipeline.store.attempts import AttemptStore
from pipeline.store.bells import listen
from pipeline.store.connection import connect_patient
from pipeline.store.keys import Keys
from pipeline.store.prompts import PromptStore
from pipeline.store.queue import ModelQueue

_LEASE_S = 100


class ModelWorker:
    """Answers each prompt with its own text in capitals, a word at a time."""

    def __init__(self, client: Redis, keys: Keys, model_id: str) -> None:
        self._client = client
        self._keys = keys
        self._prompts = PromptStore(client, keys)
        self._attempts = AttemptStore(client, keys)
        self._queue = ModelQueue(client, keys, model_id)
        self._model_id = model_id
        #: Refs of the prompts that were run, in order.
        self.ran: list[str] = []
        #: Fails the prompts whose text it likes for good.
        self.fails: Callable[[str], bool] = lambda _: False

    async def run(self) -> None:
        await self._attempts.register(self._model_id, "r", permits=1000, node="n", lease_s=_LEASE_S)
        async for _ in listen(self._client, [self._keys.wake(self._model_id)]):
            while grants := await self._queue.grant(100, _LEASE_S):
                for grant in grants:
                    await self.answer(grant.ref, grant.fence)

    async def answer(self, ref: str, fence: int) -> None:
        await self._attempts.claim(ref, fence, replica="r", lease_s=_LEASE_S, fingerprint="f")
        (prompt,) = await self._prompts.get_many([ref])
        assert prompt is not None
        self.ran.append(ref)
        if self.fails(prompt.prompt):
            await self._attempts.abandon(ref, fence, error="the engine gave up")
            return
        words = [f"{word} " for word in prompt.prompt.upper().split()]
        for number, word in enumerate(words[:-1], start=1):
            await self._attempts.append([(ref, fence, number, Delta(text=word, token_ids=(1,)))])
        meta = {"finishReason": "stop", "promptTokens": 1, "completionTokens": len(words), "modelId": self._model_id}
        await self._attempts.finish(
            ref,
            fence,
            message_id=new_id("msg"),
            text="".join(words),
            meta_json=json.dumps(meta),
            end=Delta(kind=DeltaKind.END, text=words[-1], finish_reason=FinishReason.STOP),
        )


@asynccontextmanager
async def working(redis_url: str, model_id: str = "org/small") -> AsyncIterator[ModelWorker]:
    """A worker that runs meanwhile."""
    client = connect_patient(redis_url)
    worker = ModelWorker(client, Keys("ps"), model_id)
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await client.aclose()
