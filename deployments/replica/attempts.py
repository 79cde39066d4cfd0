"""Runs attempts: claim, generate, log, finish. The replica owns an attempt from its claim to its end; the router that asked
for it may die meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

import orjson
from redis.exceptions import RedisError

from deployments.replica.histories import Histories
from deployments.replica.log_writer import RETRY_S, LogTail, LogWriter
from deployments.replica.outcome import Outcome
from deployments.replica.permits import Permits
from deployments.tasks import Supervisor
from pipeline.delta import TEXT_KINDS, Delta, DeltaKind, FinishReason
from pipeline.engine import Engine, TextRequest
from pipeline.errors import EngineDead, EngineError, PermanentEngineError, StaleLease, describe
from pipeline.ids import new_id
from pipeline.retry import RetryAfter, RetryPolicy
from pipeline.store.attempts import AttemptStore, Claimed, UnreadableRecord
from pipeline.store.connection import means_unavailable

logger = logging.getLogger("ray.serve")

T = TypeVar("T")


class AttemptRunner:
    """The attempts of one replica."""

    def __init__(
        self,
        *,
        store: AttemptStore,
        engine: Engine,
        histories: Histories,
        model_id: str,
        replica: str,
        node: str,
        permits: int,
        lease_s: float,
        supervisor: Supervisor,
        on_engine_death: Callable[[], None],
    ) -> None:
        self._store = store
        self._engine = engine
        self._histories = histories
        self._model_id = model_id
        self._replica = replica
        self._node = node
        self._permits = Permits(permits)
        self._lease_s = lease_s
        self._supervisor = supervisor
        self._on_engine_death = on_engine_death
        self._running: dict[str, LogTail] = {}
        self._writer = LogWriter(store)
        supervisor.keep_running(self._writer.run, name="log writer")

    @property
    def permits(self) -> Permits:
        """Closing them is how a replica stops to take prompts."""
        return self._permits

    @property
    def permits_used(self) -> int:
        return self._permits.used

    def leases(self) -> list[tuple[str, int]]:
        """(ref, fence) of every attempt under way. Safe to call from any thread."""
        return [(tail.ref, tail.fence) for tail in list(self._running.values())]

    def lose(self, ref: str, fence: int) -> None:
        """The store says this lease is gone: stop its attempt, unless the prompt has been claimed anew meanwhile."""
        tail = self._running.get(ref)
        if tail is not None and tail.fence == fence:
            tail.refused.set()

    async def look_again_at_all(self) -> None:
        """Doorbells may have rung unheard."""
        for ref in list(self._running):
            await self.look_again(ref)

    async def look_again(self, ref: str) -> None:
        """The doorbell rang for this prompt: ask the store whether its lease still stands, stop the attempt if not."""
        tail = self._running.get(ref)
        if tail is None:
            return
        _, gone = await self._store.heartbeat(
            self._model_id,
            self._replica,
            [(tail.ref, tail.fence)],
            lease_s=self._lease_s,
            permits_used=self._permits.used,
        )
        if ref in gone:
            tail.refused.set()

    async def hand_back_all(self) -> None:
        """The replica stops: what it still runs goes back uncharged and is resumed elsewhere."""
        for tail in list(self._running.values()):
            tail.refused.set()
            try:
                await self._store.hand_back(tail.ref, tail.fence)
            except RedisError as error:
                logger.warning("could not hand an attempt back (%s); its lease expires", type(error).__name__)

    async def run(self, ref: str, fence: int, alone: bool) -> Outcome:
        """Run one granted attempt to its end. The attempt is a task of this replica: when the caller goes away, it goes on."""
        if alone:
            taken, release = await self._close_the_door(ref, fence), self._permits.release_alone
        else:
            taken, release = self._permits.try_acquire(), self._permits.release
        if not taken:
            await self._store.hand_back(ref, fence)
            return Outcome.FULL
        task = self._supervisor.spawn(self._attempt(ref, fence), name=f"attempt {fence}")
        task.add_done_callback(lambda _: release())
        return await asyncio.shield(task)

    async def _close_the_door(self, ref: str, fence: int) -> bool:
        """Wait until nothing else runs here. The grant is kept alive meanwhile, without a holder: if this replica dies now, it
        does not die of this prompt. False if it is not to be: somebody else waits already, or the grant is gone."""
        waiting = asyncio.ensure_future(self._permits.acquire_alone())
        try:
            while True:
                done, _ = await asyncio.wait({waiting}, timeout=self._lease_s / 3)
                if done:
                    return waiting.result()
                if not await self._persist(lambda: self._store.keep(ref, fence, lease_s=self._lease_s)):
                    if waiting.done() and waiting.result():
                        # The last of the others ended while the store was asked: nobody else would open the door again.
                        self._permits.release_alone()
                    return False
        finally:
            waiting.cancel()

    async def _attempt(self, ref: str, fence: int) -> Outcome:
        try:
            claimed = await self._persist(
                lambda: self._store.claim(
                    ref, fence, replica=self._replica, lease_s=self._lease_s, fingerprint=self._engine.fingerprint
                )
            )
        except StaleLease:
            return Outcome.STALE
        except UnreadableRecord as error:
            # Another version of the service may be able to: this one fails like any other attempt.
            recorded = await self._record_failure(ref, fence, error.failures, error.max_retries, error)
            return Outcome.ENDED if recorded else Outcome.STALE
        tail = LogTail(ref=ref, fence=fence, written=claimed.entries)
        self._running[ref] = tail
        try:
            recorded = await self._generate_or_stop(claimed, tail)
        except EngineDead:
            # Every attempt of this engine died with it. Each says so for itself, then the replica goes.
            await self._persist(lambda: self._store.lose(ref, fence, node=self._node))
            del self._running[ref]
            if not self._running:
                self._on_engine_death()
            return Outcome.STALE
        except StaleLease:
            return Outcome.STALE
        except Exception as error:  # The attempt's top: whatever happened, the prompt must move on.
            recorded = await self._record_failure(ref, fence, claimed.failures, claimed.max_retries, error)
        finally:
            if self._running.get(ref) is tail:
                del self._running[ref]
        return Outcome.ENDED if recorded else Outcome.STALE

    async def _generate_or_stop(self, claimed: Claimed, tail: LogTail) -> bool:
        """Generate until the end, or until the lease is lost, whichever is first. Whether the end was recorded."""
        generation = asyncio.ensure_future(self._generate(claimed, tail))
        refusal = asyncio.ensure_future(tail.refused.wait())
        try:
            await asyncio.wait({generation, refusal}, return_when=asyncio.FIRST_COMPLETED)
            if generation.done():
                return generation.result()
            return False
        finally:
            refusal.cancel()
            generation.cancel()
            # Closing the engine's iterator is what frees its slot; it must have happened before the permit is given back.
            await asyncio.gather(generation, return_exceptions=True)
            await self._writer.take(tail)

    async def _generate(self, claimed: Claimed, tail: LogTail) -> bool:
        claimed = await self._with_history(claimed)
        answer = [claimed.logged_text]
        tokens = len(claimed.logged_token_ids)
        thought = sum(len(delta.token_ids) for delta in claimed.logged if delta.kind is DeltaKind.THINKING)
        request = TextRequest(
            request_id=f"{new_id('att')}-{claimed.fence}",
            prompt_token_ids=claimed.prompt_token_ids,
            sampling=claimed.sampling,
            logged_token_ids=claimed.logged_token_ids,
            logged_text=claimed.logged_text,
            logged=claimed.logged,
        )
        async with contextlib.aclosing(self._engine.generate(request)) as deltas:
            async for delta in deltas:
                tokens += len(delta.token_ids)
                if delta.kind in TEXT_KINDS:
                    answer.append(delta.text)
                elif delta.kind is DeltaKind.THINKING:
                    thought += len(delta.token_ids)
                if delta.kind is DeltaKind.END:
                    return await self._finish(claimed, tail, delta, "".join(answer), tokens=tokens, thought=thought)
                if delta.kind is DeltaKind.RESTART:
                    await self._append_now(tail, delta)
                    answer.clear()
                    tokens = thought = 0
                else:
                    self._writer.put(tail, delta)
        raise EngineError("the engine ended the answer without saying so")

    async def _with_history(self, claimed: Claimed) -> Claimed:
        """The prompt as the model gets it. It is stored before anything comes of it, so that whoever resumes the answer goes on
        from the same ids, whatever happens to the thread."""
        wanted = claimed.history
        if wanted is None:
            return claimed
        rendered = await self._persist(lambda: self._histories.render(wanted, claimed.sampling.max_tokens))
        token_ids = claimed.prompt_token_ids if rendered is None else rendered
        if not await self._persist(lambda: self._store.keep_rendered(claimed.ref, claimed.fence, token_ids)):
            raise StaleLease
        return replace(claimed, prompt_token_ids=token_ids, history=None)

    async def _append_now(self, tail: LogTail, delta: Delta) -> None:
        """Write one entry behind everything that waits, and nothing merged with it."""
        await self._append_all(tail, [*await self._writer.take(tail), delta])

    async def _append_all(self, tail: LogTail, entries: list[Delta]) -> None:
        for entry in entries:
            number = tail.written + 1
            (written,) = await self._persist(
                lambda entry=entry, number=number: self._store.append([(tail.ref, tail.fence, number, entry)])
            )
            if not written:
                tail.refused.set()
                raise StaleLease
            tail.written = number

    async def _finish(
        self, claimed: Claimed, tail: LogTail, end: Delta, text: str, *, tokens: int, thought: int
    ) -> bool:
        """The last script: text that is not written yet travels in the end entry, so `done` and `completed` are one."""
        pending = await self._writer.take(tail)
        if tail.refused.is_set():
            return False
        if pending and pending[-1].kind is DeltaKind.CONTENT:
            end = replace(
                pending.pop().merged_with(end),
                kind=DeltaKind.END,
                finish_reason=end.finish_reason or FinishReason.STOP,
            )
        await self._append_all(tail, pending)
        message_id = new_id("msg")
        meta = {
            "modelId": self._model_id,
            "finishReason": end.finish_reason,
            "promptTokens": len(claimed.prompt_token_ids),
            "completionTokens": tokens,
        }
        if thought:
            meta["reasoningTokens"] = thought
        return await self._persist(
            lambda: self._store.finish(
                tail.ref,
                tail.fence,
                message_id=message_id,
                text=text,
                meta_json=orjson.dumps(meta).decode(),
                end=end,
            )
        )

    async def _record_failure(self, ref: str, fence: int, failures: int, max_retries: int, error: Exception) -> bool:
        # Only our own errors are worded to be shown; the text of any other might quote the prompt.
        message = str(error) if isinstance(error, EngineError) else f"internal error ({type(error).__name__})"
        if not isinstance(error, EngineError):
            logger.error("an attempt failed unexpectedly: %s", describe(error))
        decision = RetryPolicy(max_retries=max_retries).decide(
            failures=failures + 1, permanent=isinstance(error, PermanentEngineError)
        )
        if isinstance(decision, RetryAfter):
            delay_s = decision.delay_s
            return await self._persist(lambda: self._store.retry_later(ref, fence, error=message, delay_s=delay_s))
        return await self._persist(lambda: self._store.abandon(ref, fence, error=message))

    async def _persist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call the store until it answers. A store that is away stops nothing; if it forgot the lease meanwhile, it says so."""
        while True:
            try:
                return await call()
            except RedisError as error:
                if not means_unavailable(error):
                    raise
                await asyncio.sleep(RETRY_S)
