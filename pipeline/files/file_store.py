"""Files as everybody uses them: put, read, delete, and the clearing up after whoever died in between.

What is promised: a file is seen only once all its bytes are durable; an upload that dies leaves nothing that is served; and
its blob, if it got that far, is removed by whoever sweeps next.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence

from pipeline.errors import NotFound, PromptSvcError, ServerError
from pipeline.files.blobs import CHUNK_BYTES, BlobMissing, Blobs
from pipeline.files.content import HEAD_BYTES, content_type_of
from pipeline.files.names import clean_name
from pipeline.files.record import (
    FileLimits,
    FileRecord,
    FileTooLarge,
    MadeFile,
    QuotaExceeded,
    UploadTooSlow,
    is_file_id,
    new_file_id,
)
from pipeline.store.files import FileIndex

logger = logging.getLogger("ray.serve")

#: Longest time that one ``put`` may take, seconds.
PUT_S = 3600.0
#: Time after that until it counts as dead and is swept, seconds. Ample: a process that was stopped for longer finds its upload
#: gone, and the file is not kept.
DEAD_S = 600.0
#: Time for the end of the prompt to be recorded once its first file is made, seconds; then the file is swept. A store that is
#: away for longer costs another attempt.
MADE_S = 1800.0


class FilesUnavailable(ServerError):
    """The storage of files cannot be reached or is full; try again."""

    status = 503
    retry_after_s = 10.0


class FileStore:
    """The files of all users. Needs no HTTP: replicas that make images use it as the ingress does."""

    def __init__(self, index: FileIndex, blobs: Blobs, limits: FileLimits) -> None:
        self._index = index
        self._blobs = blobs
        self.limits = limits

    async def put(
        self,
        owner: str,
        stream: AsyncIterator[bytes],
        content_type: str,
        filename: str,
        *,
        url: str = "",
        most_bytes: int | None = None,
    ) -> FileRecord:
        """Keep the bytes of ``stream`` as a new file of the user ``owner``. Nothing is kept if the stream raises.

        Args:
            content_type: the sender's word, which counts only for types that cannot harm (``content.content_type_of``).
            filename: the sender's word, cleaned; never a path.
            url: where the bytes come from, if they were downloaded; an earlier download from there is replaced.
            most_bytes: a limit below the one of every file; the less, the less the user's quota is taken up meanwhile.

        Raises:
            FileTooLarge, QuotaExceeded, TooManyUploads, UploadTooSlow: with nothing kept.
            StoreUnavailable: if the connection broke on the way back it may be kept; a listing tells.
            FilesUnavailable: the blobs' storage failed.
        """
        file_id = new_file_id()
        most = min(self.limits.file_bytes, most_bytes or self.limits.file_bytes)
        granted = await self._index.begin(file_id, owner, self.limits, wanted=most, dead_after_s=PUT_S + DEAD_S)
        try:
            async with asyncio.timeout(PUT_S) as limit:
                head, size = await self._write(file_id, stream, granted=granted, most=most)
        except BaseException as error:
            await self._give_up(file_id)
            if isinstance(error, TimeoutError) and limit.expired():
                raise UploadTooSlow from None
            raise
        name = clean_name(filename)
        kind = content_type_of(head, content_type, name)
        try:
            record, replaced = await self._index.keep(file_id, owner, name=name, content_type=kind, size=size, url=url)
        except UploadTooSlow:
            with _storage_errors():
                await self._blobs.remove(file_id)
            raise
        # After any other error it is not known whether the record is there: the blob stays, and is swept if it is not.
        if replaced:
            await self._delete(replaced, owner)
        return record

    async def make(self, owner: str, data: bytes, content_type: str, filename: str) -> MadeFile:
        """Write what an attempt made for ``owner``. It is nobody's yet: the end of the prompt keeps it (``AttemptStore.finish``),
        and without that it is dropped, by ``unmake`` or by whoever sweeps.

        Raises:
            FileTooLarge, QuotaExceeded: with nothing kept.
            StoreUnavailable, FilesUnavailable: what there is of it is swept.
        """
        if len(data) > self.limits.file_bytes:
            raise FileTooLarge(f"the file has {len(data)} bytes, allowed are {self.limits.file_bytes} bytes")
        file_id = new_file_id()
        await self._index.begin_made(file_id, owner, self.limits, size=len(data), dead_after_s=MADE_S)
        try:
            await self._write(file_id, _whole(data), granted=len(data), most=len(data))
        except BaseException:
            await self._give_up(file_id)
            raise
        return MadeFile(id=file_id, name=clean_name(filename), content_type=content_type, size=len(data))

    async def unmake(self, made: Sequence[MadeFile]) -> None:
        """Drop files of an attempt that did not end its prompt. Those that were kept after all stay."""
        for file in made:
            await self._give_up(file.id)

    async def _write(self, file_id: str, stream: AsyncIterator[bytes], *, granted: int, most: int) -> tuple[bytes, int]:
        """Write and publish the blob. Returns its first bytes and its size."""
        with _storage_errors():
            writer = await self._blobs.create(file_id)
        try:
            head, size = b"", 0
            async for piece in _pieces(stream):
                size += len(piece)
                if size > granted:
                    if granted < most:
                        raise QuotaExceeded(f"the user's files would take more than {self.limits.user_bytes} bytes")
                    raise FileTooLarge(f"the file is too large, allowed are {most} bytes")
                head = head or piece[:HEAD_BYTES]
                with _storage_errors():
                    await writer.write(piece)
            with _storage_errors():
                await writer.publish()
        except BaseException:
            try:
                with _storage_errors():
                    await writer.discard()
            except FilesUnavailable as error:
                logger.warning("file %s: not discarded: %s", file_id, error.message)
            raise
        return head, size

    async def _give_up(self, file_id: str) -> None:
        """Forget an upload; what fails here is left to whoever sweeps."""
        try:
            if await self._index.drop_dead(file_id):
                await self._remove_blob(file_id)
        except PromptSvcError as error:
            logger.warning("file %s: left to be swept: %s", file_id, error.message)

    async def get(self, owner: str, file_id: str) -> FileRecord:
        """A user's file.

        Raises:
            NotFound: the user has no such file, whether or not somebody else has.
        """
        (record,) = await self.find(owner, [file_id])
        if record is None:
            raise NotFound
        return record

    async def find(self, owner: str, file_ids: Sequence[str]) -> list[FileRecord | None]:
        """The user's files under these ids, in order; None where the user has none, whether or not somebody else has."""
        found = await self._index.get_many(file_ids)
        return [record if record is not None and record.user_id == owner else None for record in found]

    async def uploads(self, owner: str, *, limit: int, before_us: int = 0) -> list[FileRecord]:
        """Newest first; see ``FileIndex.uploads``."""
        return await self._index.uploads(owner, limit=limit, before_us=before_us)

    async def downloads(self, owner: str) -> list[FileRecord]:
        """Newest first."""
        return await self._index.downloads(owner)

    async def by_url(self, owner: str, url: str) -> FileRecord | None:
        """What the user downloaded from a URL."""
        return await self._index.by_url(owner, url)

    async def read(self, record: FileRecord, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        """The bytes from ``start`` up to ``stop``, piece by piece.

        Raises:
            NotFound: it was deleted meanwhile.
            BlobMissing: the blob is gone and the record is not.
            FilesUnavailable: the blobs' storage failed.
        """
        stop = record.size if stop is None else min(stop, record.size)
        try:
            with _storage_errors():
                async with contextlib.aclosing(self._blobs.read(record.id, start, stop)) as pieces:
                    async for piece in pieces:
                        yield piece
        except BlobMissing:
            if await self._index.get(record.id) is None:
                raise NotFound from None
            raise

    async def delete(self, owner: str, file_id: str) -> None:
        """Delete a user's file. Whoever reads it at the moment may still get all of it. Prompts that name it keep its id.

        Raises:
            NotFound: the user has no such file.
        """
        if not is_file_id(file_id) or not await self._delete(file_id, owner):
            raise NotFound

    async def _delete(self, file_id: str, owner: str) -> bool:
        if not await self._index.drop_kept(file_id, owner):
            return False
        try:
            await self._remove_blob(file_id)
        except PromptSvcError as error:
            # Deleted it is: nobody can reach it.
            logger.warning("file %s: its blob is left to be swept: %s", file_id, error.message)
        return True

    async def sweep(self, most: int = 100) -> int:
        """Remove up to ``most`` blobs of uploads that died and of files whose deletion was cut short. Returns how many.

        Any number of replicas may do it at the same time: each step may be repeated, and only the store decides which files
        are dead.
        """
        removed = 0
        for file_id in await self._index.due(most):
            # Puts the next look off, so that one blob that cannot be removed does not keep the others waiting.
            if not await self._index.drop_dead(file_id):
                continue
            try:
                await self._remove_blob(file_id)
                removed += 1
            except FilesUnavailable as error:
                logger.warning("file %s: its blob is left for the next sweep: %s", file_id, error.message)
        return removed

    async def _remove_blob(self, file_id: str) -> None:
        with _storage_errors():
            await self._blobs.remove(file_id)
        await self._index.settled(file_id)

    def close(self) -> None:
        self._blobs.close()


async def _whole(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _pieces(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in pieces of about ``CHUNK_BYTES``: each costs a hop into a thread."""
    waiting: list[bytes] = []
    size = 0
    async for chunk in stream:
        waiting.append(chunk)
        size += len(chunk)
        if size >= CHUNK_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    if size:
        yield b"".join(waiting)


@contextlib.contextmanager
def _storage_errors() -> Iterator[None]:
    """A full disk or a storage that is away, in our words. Its own message may name paths."""
    try:
        yield
    except OSError as error:
        logger.error("storage of files: %s (errno %s)", type(error).__name__, error.errno)
        raise FilesUnavailable from None
