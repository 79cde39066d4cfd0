"""A store and its model, for a state machine to take steps on both."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, TypeVar

import redis
from hypothesis.stateful import RuleBasedStateMachine
from redis.asyncio import Redis

from pipeline.delta import Delta, DeltaKind, FinishReason
from pipeline.store.attempts import AttemptStore
from pipeline.store.catalogue import CatalogueStore
from pipeline.store.keys import Keys
from pipeline.store.messages import MessageStore
from pipeline.store.prompts import PromptStore
from pipeline.store.queue import ModelQueue
from pipeline.store.threads import ThreadStore
from tests.integration.queue_checks import StoreChecks
from tests.integration.queue_model import QueueModel
from tests.integration.queue_model_records import ModelPrompt

T = TypeVar("T")

MODEL = "m"
USERS = ("ann", "bob", "cyd")


class StoreMachine(RuleBasedStateMachine):
    """Without any rules."""

    url: ClassVar[str]
    steps: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.model = QueueModel()
        self.keys = Keys("hyp")
        # Its stubs allow for replies that are text.
        self.reader: Any = redis.Redis.from_url(self.url)
        self.reader.flushdb()
        self.loop = asyncio.new_event_loop()
        self.client = Redis.from_url(self.url)
        self.prompts = PromptStore(self.client, self.keys)
        self.threads = ThreadStore(self.client, self.keys, self.prompts)
        self.messages = MessageStore(self.client, self.keys)
        self.queue = ModelQueue(self.client, self.keys, MODEL)
        self.attempts = AttemptStore(self.client, self.keys)
        self.catalogue = CatalogueStore(self.client, self.keys)
        self.checks = StoreChecks(self.reader, self.keys, self.model, model_id=MODEL, users=USERS)
        self.erased: set[str] = set()
        self.past = 0

    def teardown(self) -> None:
        for prompt in self.model.prompts.values():
            self.checks.log(prompt)
        self.checks.messages()
        self.loop.run_until_complete(self.client.aclose())
        self.loop.close()
        self.reader.close()

    def run(self, name: str, call: Awaitable[T]) -> T:
        type(self).steps[name] += 1

        async def awaited() -> T:
            return await call

        return self.loop.run_until_complete(awaited())

    def _attempt(
        self,
        name: str,
        pick: int,
        off: int,
        step: Callable[[str, int], bool],
        call: Callable[[str, int], Awaitable[bool]],
    ) -> None:
        prompt = self._pick_running(pick) if pick % 8 else self._pick(pick // 8)
        right = step(prompt.ref, prompt.fence + off)
        assert self.run(name if right else f"{name} refused", call(prompt.ref, prompt.fence + off)) == right

    async def _finish(self, ref: str, fence: int, entries: int = 0) -> bool:
        end = Delta(kind=DeltaKind.END, finish_reason=FinishReason.STOP)
        return await self.attempts.finish(
            ref, fence, message_id=f"msg-{ref}", text="text", meta_json="{}", end=end, entries=entries
        )

    def _pick(self, pick: int, *, open_only: bool = False) -> ModelPrompt:
        prompts = sorted(self.model.prompts.values(), key=lambda p: p.seq)
        if open_only:
            prompts = [p for p in prompts if not p.status.is_terminal] or prompts
        return prompts[pick % len(prompts)]

    def _pick_running(self, pick: int) -> ModelPrompt:
        running = [self.model.prompts[ref] for ref in sorted(self.model.leases)]
        return running[pick % len(running)] if running else self._pick(pick)

    def _into_the_past(self, key: str, member: str) -> None:
        """Deadlines are told apart by when they were moved, as the model does."""
        self.past += 1
        type(self).steps[f"expire {key.split(':')[1]}"] += 1
        assert self.reader.zadd(key, {member: self.past}, xx=True, ch=True) == 1
