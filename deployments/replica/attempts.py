"""Runs attempts, whatever they make: claim, work, the end. The replica owns an attempt from its claim on; the router that asked
for it may die meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from redis.exceptions import RedisError

from deployments.replica.attempt_log import AttemptLog
from deployments.replica.log_writer import LogTail, LogWriter
from deployments.replica.outcome import Outcome
from deployments.replica.permits import Permits
from deployments.replica.persist import persist
from deployments.replica.work import Work
from deployments.tasks import Supervisor
from pipeline.errors import EngineDead, EngineError, LogForgotten, PermanentEngineError, StaleLease, describe
from pipeline.retry import RetryAfter, RetryPolicy
from pipeline.store.attempts import AttemptStore, Claimed, UnreadableRecord

logger = logging.getLogger("ray.serve")


class AttemptRunner:
    """The attempts of one replica."""

    def __init__(
        self,
        *,
        store: AttemptStore,
        work: Work,
        model_id: str,
        replica: str,
        node: str,
        permits: int,
        lease_s: float,
        supervisor: Supervisor,
        on_engine_death: Callable[[], None],
        on_offer: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            on_offer: called when the store should hear at once how many permits are offered (``Permits.offered``).
        """
        self._store = store
        self._work = work
        self._model_id = model_id
        self._replica = replica
        self._node = node
        self._permits = Permits(permits, on_offer=on_offer)
        self._lease_s = lease_s
        self._supervisor = supervisor
        self._on_engine_death = on_engine_death
        #: Every call of ``run`` under way, those included that wait or have not claimed yet.
        self._runs: dict[tuple[str, int], asyncio.Task[Outcome]] = {}
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
                await self._store.hand_back(tail.ref, tail.fence, replica=self._replica)
            except RedisError as error:
                logger.warning("could not hand an attempt back (%s); its lease expires", type(error).__name__)

    async def run(self, ref: str, fence: int, alone: bool) -> Outcome:
        """Run one granted attempt to its end. It is a task of this replica: when the caller goes away, it goes on, and a second
        call for it gets its outcome."""
        # Serve sends a request again whose acceptance it could not read; with one replica, to the same one.
        key = (ref, fence)
        task = self._runs.get(key)
        if task is None:
            task = self._runs[key] = self._supervisor.spawn(self._run(ref, fence, alone), name=f"attempt {fence}")
            task.add_done_callback(lambda _: self._runs.pop(key))
        return await asyncio.shield(task)

    async def _run(self, ref: str, fence: int, alone: bool) -> Outcome:
        if alone:
            taken, release = await self._close_the_door(ref, fence), self._permits.release_alone
        else:
            taken, release = self._permits.try_acquire(), self._permits.release
        if not taken:
            await self._store.hand_back(ref, fence, replica=self._replica)
            return Outcome.FULL
        try:
            return await self._attempt(ref, fence)
        finally:
            release()

    async def _close_the_door(self, ref: str, fence: int) -> bool:
        """Wait until nothing else runs here. The grant is kept alive meanwhile, without a holder: if this replica dies now, it
        does not die of this prompt. False if it is not to be: somebody else waits already, or the grant is gone."""
        waiting = asyncio.ensure_future(self._permits.acquire_alone())
        entered = False
        try:
            while True:
                done, _ = await asyncio.wait({waiting}, timeout=self._lease_s / 3)
                if done:
                    entered = waiting.result()
                    return entered
                if not await persist(lambda: self._store.keep(ref, fence, lease_s=self._lease_s)):
                    return False
        finally:
            if not entered and not waiting.cancel() and waiting.result():
                # The last of the others ended while the store was asked: nobody else would open the door again.
                self._permits.release_alone()

    async def _attempt(self, ref: str, fence: int) -> Outcome:
        try:
            claimed = await persist(
                lambda: self._store.claim(
                    ref, fence, replica=self._replica, lease_s=self._lease_s, fingerprint=self._work.fingerprint
                )
            )
        except StaleLease:
            return Outcome.STALE
        except UnreadableRecord as error:
            # Another version of the service may be able to: this one fails like any other attempt.
            recorded = await self._record_failure(ref, fence, error.failures, error.max_retries, error)
            return Outcome.ENDED if recorded else Outcome.STALE
        earlier = self._running.get(ref)
        if earlier is not None:
            # Its lease expired unnoticed, and nobody would look after it any more.
            earlier.refused.set()
        tail = self._running[ref] = LogTail(ref=ref, fence=fence, written=claimed.entries)
        try:
            recorded = await self._generate_or_stop(claimed, tail)
        except EngineDead:
            # Every attempt of this engine died with it. Each says so for itself, then the replica goes. Until then it takes no
            # other: the store would forget it with the first, and not know where the other had died.
            self._permits.close()
            await persist(lambda: self._store.lose(ref, fence, node=self._node))
            self._forget(tail)
            if not self._running:
                self._on_engine_death()
            return Outcome.STALE
        except LogForgotten:
            # It is still the attempt's, and no fault of the prompt: the next one goes on from what the store has.
            logger.warning("the store has forgotten entries of an attempt's log; it is handed back")
            await persist(lambda: self._store.hand_back(ref, fence, replica=self._replica))
            return Outcome.STALE
        except StaleLease:
            return Outcome.STALE
        except Exception as error:  # The attempt's top: whatever happened, the prompt must move on.
            recorded = await self._record_failure(ref, fence, claimed.failures, claimed.max_retries, error)
        finally:
            self._forget(tail)
        return Outcome.ENDED if recorded else Outcome.STALE

    def _forget(self, tail: LogTail) -> None:
        """Unless a later attempt at its prompt is in its place."""
        if self._running.get(tail.ref) is tail:
            del self._running[tail.ref]

    async def _generate_or_stop(self, claimed: Claimed, tail: LogTail) -> bool:
        """Generate until the end, or until the lease is lost, whichever is first. Whether the end was recorded."""
        log = AttemptLog(tail, self._writer, self._store)
        generation = asyncio.ensure_future(self._work.answer(claimed, log))
        refusal = asyncio.ensure_future(tail.refused.wait())
        try:
            await asyncio.wait({generation, refusal}, return_when=asyncio.FIRST_COMPLETED)
            if generation.done():
                return generation.result()
            if tail.forgotten:
                raise LogForgotten
            return False
        finally:
            refusal.cancel()
            generation.cancel()
            # Closing the engine's iterator is what frees its slot; it must have happened before the permit is given back.
            await asyncio.gather(generation, return_exceptions=True)
            await self._writer.take(tail)

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
            return await persist(lambda: self._store.retry_later(ref, fence, error=message, delay_s=delay_s))
        return await persist(lambda: self._store.abandon(ref, fence, error=message))
