"""The log of one attempt, as whoever generates writes it."""

from __future__ import annotations

from deployments.replica.log_writer import LogTail, LogWriter
from deployments.replica.persist import persist
from pipeline.delta import Delta
from pipeline.store.attempts import AttemptStore, Written


class AttemptLog:
    """Where the deltas of an attempt go."""

    def __init__(self, tail: LogTail, writer: LogWriter, store: AttemptStore) -> None:
        self._tail = tail
        self._writer = writer
        self._store = store

    @property
    def written(self) -> int:
        """Entries that the store has acknowledged, earlier attempts' included."""
        return self._tail.written

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
            if written is not Written.DONE:
                tail.refuse(written)
                raise tail.why_refused()
            tail.written = number

    async def unwritten(self) -> list[Delta]:
        """What still waits; it is the caller's from now on. Raises StaleLease if the attempt is over."""
        pending = await self._writer.take(self._tail)
        if self._tail.refused.is_set():
            raise self._tail.why_refused()
        return pending
