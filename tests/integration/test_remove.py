"""Removing a prompt that ends in the very moment."""

from __future__ import annotations

from redis.asyncio import Redis

from pipeline.delta import Delta, DeltaKind, FinishReason
from pipeline.prompt import NewPrompt
from pipeline.store.attempts import AttemptStore
from pipeline.store.keys import Keys
from pipeline.store.prompts import PromptStore
from pipeline.store.queue import ModelQueue


class FinishingPrompts(PromptStore):
    """The prompt is finished by its replica right after ``erase`` has found it running."""

    attempts: AttemptStore

    async def erase(self, ref: str) -> bool:
        erased = await super().erase(ref)
        if not erased:
            end = Delta(kind=DeltaKind.END, finish_reason=FinishReason.STOP)
            await self.attempts.finish(ref, 1, message_id="msg-1", text="", meta_json="{}", end=end)
        return erased


async def test_a_prompt_that_finishes_while_it_is_removed_is_erased(redis_url: str) -> None:
    client, keys = Redis.from_url(redis_url), Keys("test")
    prompts = FinishingPrompts(client, keys)
    prompts.attempts = AttemptStore(client, keys)
    new = NewPrompt(id="p", user_id="u", thread_id="t", model_id="m", prompt="words", prompt_token_ids=(1,))
    await prompts.accept(new)
    await prompts.attempts.register("m", "r", permits=1, node="n", lease_s=100)
    await ModelQueue(client, keys, "m").grant(1, 100)

    await prompts.remove(new.ref)

    assert await prompts.get("u", "p") is None
    await client.aclose()
