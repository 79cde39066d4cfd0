"""The log of one attempt, as whoever generates writes it."""

from __future__ import annotations

from deployments.replica.log_writer import LogTail, LogWriter
from deployments.replica.persist import persist
from pipeline.delta import Delta
from pipeline.errors import StaleLease
from pipeline.store.attempts import AttemptStore


class AttemptLog:
    """Where the deltas of an attempt go."""

    def __init__(self, tail: LogTail, writer: LogWriter, store: AttemptStore) -> None:
        self._tail = tail
        self._writer = writer
        self._store = store

    def put(self, delta: Delta) -> None:
        """Soon."""
        self._writer.put(self._tail, delta)

    async def append_now(self, delta: Delta) -> None:
        """Write one entry behind everything that waits, and nothing merged with it. Raises StaleLease."""
        await self.append_all([*await self._writer.take(self._tail), delta])

    async def append_all(self, entries: list[Delta]) -> None:
        """Write these, one by one. Raises StaleLease."""
        tail = self._tail
        for entry in entries:
            number = tail.written + 1
            (written,) = await persist(
                lambda entry=entry, number=number: self._store.append([(tail.ref, tail.fence, number, entry)])
            )
            if not written:
                tail.refused.set()
                raise StaleLease
            tail.written = number

    async def unwritten(self) -> list[Delta]:
        """What still waits; it is the caller's from now on. Raises StaleLease if the attempt is over."""
        pending = await self._writer.take(self._tail)
        if self._tail.refused.is_set():
            raise StaleLease
        return pending
