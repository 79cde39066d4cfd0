"""Carries the deltas of all attempts of a replica to their logs: the first of an attempt at once, then coalesced."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

from deployments.replica.persist import persist
from pipeline.delta import Delta
from pipeline.errors import LogForgotten, StaleLease
from pipeline.store.attempts import AttemptStore, Written

#: Shortest time between two writes, seconds (DESIGN §3.3: coalesced, ≤ 30 ms).
COALESCE_S = 0.03


@dataclass(slots=True, eq=False)
class LogTail:
    """The unwritten end of one attempt's log."""

    ref: str
    fence: int
    #: Number of the last entry that is written.
    written: int
    #: Set when the store refused a write: the attempt is stale and must stop.
    refused: asyncio.Event = field(default_factory=asyncio.Event)
    #: It did because it has forgotten what was written before.
    forgotten: bool = False
    _pending: list[Delta] = field(default_factory=list)
    _urgent: bool = True
    _in_flight: bool = False
    _settled: asyncio.Event = field(default_factory=asyncio.Event)

    def refuse(self, outcome: Written) -> None:
        """The store did not take a write."""
        self.forgotten = self.forgotten or outcome is Written.FORGOTTEN
        self.refused.set()

    def why_refused(self) -> StaleLease:
        return LogForgotten() if self.forgotten else StaleLease()


class LogWriter:
    """One write at a time for the whole replica: while it is under way the next one gathers."""

    def __init__(self, store: AttemptStore) -> None:
        self._store = store
        self._dirty: dict[LogTail, None] = {}
        self._work = asyncio.Event()
        #: Set with the first delta of an attempt: it does not wait for those that gather.
        self._hurry = asyncio.Event()
        self._last_write = 0.0

    def put(self, tail: LogTail, delta: Delta) -> None:
        """Queue a delta. One of its kind that waits already takes it in, so an attempt holds one entry, or one more for each time
        its answer turned to something else (thoughts, text, a call of a tool) meanwhile."""
        pending = tail._pending
        if pending and pending[-1].can_take(delta):
            pending[-1] = pending[-1].merged_with(delta)
        else:
            pending.append(delta)
        self._dirty[tail] = None
        self._work.set()
        if tail._urgent:
            self._hurry.set()

    async def take(self, tail: LogTail) -> list[Delta]:
        """What is not written yet, once no write of this attempt is under way. It is the caller's from then on."""
        while tail._in_flight:
            tail._settled.clear()
            await tail._settled.wait()
        self._dirty.pop(tail, None)
        pending, tail._pending = tail._pending, []
        return pending

    async def run(self) -> None:
        """Write for ever."""
        loop = asyncio.get_running_loop()
        while True:
            await self._work.wait()
            wait = self._last_write + COALESCE_S - loop.time()
            if wait > 0 and not self._hurry.is_set():
                # Not ``wait_for``: before Python 3.12 it may lose a cancellation (cpython#86296).
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._hurry.wait()
            self._hurry.clear()
            self._work.clear()
            batch = list(self._dirty)
            self._dirty.clear()
            if batch:
                self._last_write = loop.time()
                await self._write(batch)

    async def _write(self, batch: list[LogTail]) -> None:
        entries = []
        owners = []
        for tail in batch:
            for number, delta in enumerate(tail._pending, start=tail.written + 1):
                entries.append((tail.ref, tail.fence, number, delta))
                owners.append(tail)
            tail._pending, tail._in_flight, tail._urgent = [], True, False
        try:
            written = await self._write_until_answered(entries)
        except Exception:
            # A log with a hole is worse than an attempt that is run again.
            for tail in batch:
                tail.refused.set()
            raise
        finally:
            for tail in batch:
                tail._in_flight = False
                tail._settled.set()
        for tail, outcome in zip(owners, written, strict=True):
            if outcome is Written.DONE:
                tail.written += 1
            else:
                tail.refuse(outcome)

    async def _write_until_answered(self, entries: list[tuple[str, int, int, Delta]]) -> list[Written]:
        """A store that is away is waited for: entries carry their number, so writing one twice leaves one."""
        return await persist(lambda: self._store.append(entries))
