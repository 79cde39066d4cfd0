"""A model whose answers a test writes word by word, on the real store."""

from __future__ import annotations

import json
from types import TracebackType

from redis.asyncio import Redis

from pipeline.delta import Delta, DeltaKind, FinishReason, ToolPart
from pipeline.store.attempts import AttemptStore, Claimed
from pipeline.store.keys import Keys
from pipeline.store.queue import ModelQueue
from tests.waiting import until_true

MODEL = "org/small"


class Attempt:
    """One attempt under way."""

    def __init__(self, attempts: AttemptStore, claimed: Claimed) -> None:
        self._attempts = attempts
        self.claimed = claimed
        self._entries = claimed.entries
        self._text: list[str] = []

    async def say(self, text: str, kind: DeltaKind = DeltaKind.CONTENT, tool: ToolPart | None = None) -> None:
        self._entries += 1
        if kind is DeltaKind.RESTART:
            self._text.clear()
        elif kind is DeltaKind.CONTENT:
            self._text.append(text)
        entry = (self.claimed.ref, self.claimed.fence, self._entries, Delta(kind=kind, text=text, tool=tool))
        assert await self._attempts.append([entry]) == [True]

    async def end(self, text: str = "", reason: FinishReason = FinishReason.STOP) -> None:
        meta = {"modelId": MODEL, "finishReason": reason, "promptTokens": 7, "completionTokens": 3}
        assert await self._attempts.finish(
            self.claimed.ref,
            self.claimed.fence,
            message_id=f"msg-{self.claimed.fence}",
            text="".join(self._text) + text,
            meta_json=json.dumps(meta),
            end=Delta(kind=DeltaKind.END, text=text, finish_reason=reason),
        )

    async def fail(self, error: str) -> None:
        assert await self._attempts.abandon(self.claimed.ref, self.claimed.fence, error=error)


class ModelByHand:
    """The only replica of the model."""

    def __init__(self, url: str, namespace: str = "ps") -> None:
        self._client = Redis.from_url(url)
        self._queue = ModelQueue(self._client, Keys(namespace), MODEL)
        self._attempts = AttemptStore(self._client, Keys(namespace))

    async def __aenter__(self) -> ModelByHand:
        await self._attempts.register(MODEL, "r", permits=1000, node="n", lease_s=1000)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def take(self) -> Attempt:
        """The next prompt, once there is one."""
        (grant,) = await until_true(lambda: self._queue.grant(1, 1000), what="a waiting prompt")
        claimed = await self._attempts.claim(grant.ref, grant.fence, replica="r", lease_s=1000, fingerprint="f")
        return Attempt(self._attempts, claimed)

    async def answer(self, *words: str, reason: FinishReason = FinishReason.STOP) -> Attempt:
        """Answer the next prompt."""
        attempt = await self.take()
        for word in words:
            await attempt.say(word)
        await attempt.end(reason=reason)
        return attempt

    async def waiting(self) -> int:
        """Prompts that wait for the model."""
        return (await self._queue.depth()).waiting
