"""Metadata of files: space reserved before the first byte, the record once all are there, and what is left to clear up.

    begin ──> writing ──keep──> kept ──drop──┐
          └─> made ────finish───> │          │
                 └───────drop (dead)─────────┴──> unsettled, until its blob is gone

``made`` is what an attempt made: the script that ends its prompt keeps it, in the same step.

A file is in ``unsettled_files`` from before its blob exists until it is kept, and again from its deletion until the blob is
gone. So nothing has to be looked for in the blobs themselves, and files of others that lie beside them are never touched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from redis.asyncio import Redis

from pipeline.errors import StoreFull
from pipeline.files.record import FileLimits, FileRecord, QuotaExceeded, TooManyUploads, UploadTooSlow, is_file_id
from pipeline.store.connection import translated_errors
from pipeline.store.keys import Keys
from pipeline.store.replies import text
from pipeline.store.scripts import Scripts

#: Uploads of one user at the same time.
MOST_WRITING = 8
#: How long a deleted file's blob is left to whoever deleted it, seconds; then whoever sweeps removes it.
GRACE_S = 60.0
#: Most files in one page.
MOST = 1000


class FileIndex:
    """Every method may raise StoreUnavailable."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._scripts = Scripts(client, keys.namespace)

    async def begin(self, file_id: str, user_id: str, limits: FileLimits, *, wanted: int, dead_after_s: float) -> int:
        """Reserve up to ``wanted`` bytes for an upload. Returns how many the file may have, fewer where the user has less left.

        Raises:
            QuotaExceeded: of bytes or of files.
            TooManyUploads: of this user at the same time.
            StoreFull
        """
        return await self._begin(file_id, user_id, limits, wanted, dead_after_s, "writing")

    async def begin_made(
        self, file_id: str, user_id: str, limits: FileLimits, *, size: int, dead_after_s: float
    ) -> None:
        """Reserve ``size`` bytes for what an attempt made; it is no upload of the user's.

        Raises:
            QuotaExceeded: of bytes or of files.
        """
        granted = await self._begin(file_id, user_id, limits, size, dead_after_s, "made")
        if granted < size:
            await self.drop_dead(file_id)
            await self.settled(file_id)
            raise QuotaExceeded(f"the user's files would take more than {limits.user_bytes} bytes")

    async def _begin(
        self, file_id: str, user_id: str, limits: FileLimits, wanted: int, dead_after_s: float, state: str
    ) -> int:
        with translated_errors():
            outcome = await self._scripts.run(
                "file_begin",
                file_id,
                user_id,
                wanted,
                limits.user_bytes,
                limits.user_files,
                MOST_WRITING,
                round(dead_after_s * 1e6),
                state,
            )
        if outcome == b"bytes":
            raise QuotaExceeded(f"the files of this user take all they may: {limits.user_bytes} bytes")
        if outcome == b"files":
            raise QuotaExceeded(f"this user has all the files they may have: {limits.user_files}")
        if outcome == b"writing":
            raise TooManyUploads(f"this user has {MOST_WRITING} uploads under way")
        if outcome == b"full":
            raise StoreFull
        return int(outcome)

    async def keep(
        self, file_id: str, user_id: str, *, name: str, content_type: str, size: int, url: str
    ) -> tuple[FileRecord, str]:
        """Record a file whose blob is published. Returns it, and the id of the download it takes the place of, if any.

        Raises:
            UploadTooSlow: it is swept already.
        """
        fields = {"name": name, "type": content_type, "url": url}
        flat = [part for item in fields.items() for part in item]
        kind = "downloads" if url else "uploads"
        with translated_errors():
            outcome = await self._scripts.run("file_keep", file_id, kind, _digest(url), size, *flat)
        if not outcome:
            raise UploadTooSlow
        created, replaced = outcome
        record = FileRecord(
            id=file_id,
            user_id=user_id,
            name=name,
            content_type=content_type,
            size=size,
            created_us=int(created),
            url=url,
        )
        return record, text(replaced)

    async def drop_kept(self, file_id: str, user_id: str) -> bool:
        """Forget a user's file; the caller removes its blob and then says ``settled``. False if the user has no such file."""
        return await self._drop(file_id, user_id, "kept") == b"dropped"

    async def drop_dead(self, file_id: str) -> bool:
        """Forget a file that did not become whole. Returns whether its blob may be removed: it may not if it is kept."""
        return await self._drop(file_id, "", "dead") != b"stays"

    async def _drop(self, file_id: str, user_id: str, state: str) -> bytes:
        with translated_errors():
            return bytes(await self._scripts.run("file_drop", file_id, user_id, state, round(GRACE_S * 1e6)))

    async def settled(self, file_id: str) -> None:
        """The blob of a dropped file is gone."""
        with translated_errors():
            await self._client.zrem(self._keys.unsettled_files(), file_id)

    async def due(self, most: int) -> list[str]:
        """Up to ``most`` files whose blobs nobody takes care of any more, longest waiting first."""
        with translated_errors():
            seconds, microseconds = await self._client.time()
            now = seconds * 1_000_000 + microseconds
            found = await self._client.zrangebyscore(self._keys.unsettled_files(), "-inf", now, 0, most)
        return [text(file_id) for file_id in found]

    async def get(self, file_id: str) -> FileRecord | None:
        return (await self.get_many([file_id]))[0]

    async def get_many(self, file_ids: Sequence[str]) -> list[FileRecord | None]:
        """In order; None for what is not (or no longer) kept."""
        known = [file_id for file_id in file_ids if is_file_id(file_id)]
        pipe = self._client.pipeline(transaction=False)
        for file_id in known:
            pipe.hgetall(self._keys.file(file_id))
        with translated_errors():
            replies = await pipe.execute()
        found: dict[str, FileRecord] = {}
        for file_id, reply in zip(known, replies, strict=True):
            record = {text(field): text(value) for field, value in reply.items()}
            if record.get("state") == "kept":
                found[file_id] = FileRecord.from_record(file_id, record)
        return [found.get(file_id) for file_id in file_ids]

    async def by_url(self, user_id: str, url: str) -> FileRecord | None:
        """What the user downloaded from a URL."""
        with translated_errors():
            file_id = await self._client.hget(self._keys.user_urls(user_id), _digest(url))
        return None if file_id is None else await self.get(text(file_id))

    async def uploads(self, user_id: str, *, limit: int = MOST, before_us: int = 0) -> list[FileRecord]:
        """Newest first; of those created before ``before_us`` (0: all) at most ``limit``."""
        return await self._page("uploads", user_id, limit, before_us)

    async def downloads(self, user_id: str, *, limit: int = MOST, before_us: int = 0) -> list[FileRecord]:
        """As ``uploads``."""
        return await self._page("downloads", user_id, limit, before_us)

    async def _page(self, kind: str, user_id: str, limit: int, before_us: int) -> list[FileRecord]:
        newest = f"({before_us}" if before_us else "+inf"
        with translated_errors():
            found = await self._client.zrevrangebyscore(
                self._keys.user_files(kind, user_id), newest, "-inf", 0, min(limit, MOST)
            )
        records = await self.get_many([text(file_id) for file_id in found])
        return [record for record in records if record is not None]


def _digest(url: str) -> str:
    """URLs may be long, and what a client chooses is no key name."""
    return hashlib.sha256(url.encode()).hexdigest() if url else ""
