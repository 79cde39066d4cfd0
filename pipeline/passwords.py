"""Argon2id hashing off the event loop, a few passwords at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from pipeline.errors import TooManyRequests

#: Longest password, in characters: hashing time must not grow with what a client sends.
MAX_PASSWORD = 1024


class Passwords:
    """Hashes and verifies passwords.

    One hash takes about 64 MiB and 50 ms of a core with the library's defaults (RFC 9106, low memory), so ``parallel`` run at
    once and at most ``waiting`` wait; who comes then is sent away instead of growing a queue.
    """

    def __init__(self, hasher: PasswordHasher | None = None, *, parallel: int = 2, waiting: int = 64) -> None:
        self._hasher = hasher or PasswordHasher()
        self._slots = asyncio.Semaphore(parallel)
        self._most_waiting = waiting
        self._waiting = 0
        self._threads = ThreadPoolExecutor(parallel, thread_name_prefix="argon2")
        #: Verified in place of a hash that does not exist, so that both cases take the same time.
        self._stand_in = self._hasher.hash("no account has this password")

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[Slot]:
        """The right to one hash at a time. Raises TooManyRequests when too many wait for one."""
        if self._waiting >= self._most_waiting:
            raise TooManyRequests("Too many logins at this moment", retry_after_s=1)
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        try:
            yield Slot(self._hasher, self._threads, self._stand_in)
        finally:
            self._slots.release()

    async def hash(self, password: str) -> str:
        """The encoded hash of a new password. Raises TooManyRequests."""
        async with self.slot() as slot:
            return await slot.hash(password)

    async def verify(self, encoded: str | None, password: str) -> bool:
        """Whether the password is the one of ``encoded``; None is never. Raises TooManyRequests."""
        async with self.slot() as slot:
            return await slot.verify(encoded, password)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class Slot:
    """What a holder of a slot may do."""

    def __init__(self, hasher: PasswordHasher, threads: ThreadPoolExecutor, stand_in: str) -> None:
        self._hasher = hasher
        self._threads = threads
        self._stand_in = stand_in

    async def hash(self, password: str) -> str:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._hasher.hash, password)

    async def verify(self, encoded: str | None, password: str) -> bool:
        loop = asyncio.get_running_loop()
        same = await loop.run_in_executor(self._threads, self._same, encoded or self._stand_in, password)
        return same and encoded is not None

    def _same(self, encoded: str, password: str) -> bool:
        try:
            return self._hasher.verify(encoded, password)
        except VerificationError:
            return False
