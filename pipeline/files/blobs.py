"""Where the bytes of files are: a small protocol, and a directory that implements it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import IO, Protocol

from pipeline.errors import ServerError
from pipeline.files.record import is_file_id
from pipeline.files.threads import Threads

#: Bytes read, and written, at a time; what one transfer holds in memory.
CHUNK_BYTES = 256 * 1024
#: Files worked on at the same time; the rest waits.
THREADS = 16


class BlobMissing(ServerError):
    """The bytes of a file are gone although its record is there."""


class BlobWriter(Protocol):
    """One blob on its way in. It is invisible until published."""

    async def write(self, data: bytes) -> None: ...

    async def publish(self) -> None:
        """Make it durable and visible, at once."""
        ...

    async def discard(self) -> None:
        """Drop what was written. Fine after a failed ``publish``."""
        ...


class Blobs(Protocol):
    """Blobs by file id. Written once, never changed."""

    async def create(self, file_id: str) -> BlobWriter: ...

    def read(self, file_id: str, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """The bytes from ``start`` up to ``stop``. Raises BlobMissing, also half-way where a blob may vanish under a reader."""
        ...

    async def remove(self, file_id: str) -> None:
        """Remove a blob, published or not; fine if there is none."""
        ...

    def close(self) -> None: ...


def published_name(file_id: str) -> str:
    """Path of a published blob below the root: a few hundred folders, so that none gets slow."""
    if not is_file_id(file_id):
        raise ValueError("not a file id")
    return f"{file_id[5:7]}/{file_id}"


def partial_name(file_id: str) -> str:
    """Path of a blob that is not whole yet."""
    if not is_file_id(file_id):
        raise ValueError("not a file id")
    return f"partial/{file_id}"


class DirectoryBlobs:
    """Blobs in a directory of one machine, or one that several machines share."""

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root).absolute()
        self._threads = Threads(THREADS, "files")
        self._has_folders = False

    async def create(self, file_id: str) -> BlobWriter:
        return ThreadedWriter(self._threads, await self._threads.run(self._create, file_id))

    def _create(self, file_id: str) -> BlockingWriter:
        # All at once: to make one durable while a file waits for it takes longer than the file.
        if not self._has_folders:
            _make_folders(self._root)
            self._has_folders = True
        try:
            return _FileWriter(self._root, file_id)
        except FileNotFoundError:  # somebody tidied up
            _make_folders(self._root)
            return _FileWriter(self._root, file_id)

    async def read(self, file_id: str, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        path = self._root / published_name(file_id)
        # One descriptor for the whole read: a blob that is removed meanwhile is still read to its end.
        try:
            file = await self._threads.run(_open, path)
        except FileNotFoundError:
            raise BlobMissing from None
        try:
            while start < stop:
                data = await self._threads.run(os.pread, file.fileno(), min(CHUNK_BYTES, stop - start), start)
                if not data:
                    raise BlobMissing
                start += len(data)
                yield data
        finally:
            file.close()

    async def remove(self, file_id: str) -> None:
        for name in (published_name(file_id), partial_name(file_id)):
            await self._threads.run((self._root / name).unlink, missing_ok=True)

    def close(self) -> None:
        self._threads.close()


class BlockingWriter(Protocol):
    """``BlobWriter`` as plain calls."""

    def write(self, data: bytes) -> object: ...

    def publish(self) -> None: ...

    def discard(self) -> None: ...


class ThreadedWriter:
    """A ``BlobWriter`` that leaves the work to threads."""

    def __init__(self, threads: Threads, writer: BlockingWriter) -> None:
        self._threads = threads
        self._writer = writer

    async def write(self, data: bytes) -> None:
        await self._threads.run(self._writer.write, data)

    async def publish(self) -> None:
        await self._threads.run(self._writer.publish)

    async def discard(self) -> None:
        await self._threads.run(self._writer.discard)


class _FileWriter:
    """Writes beside the published blobs, in folders that are there."""

    def __init__(self, root: Path, file_id: str) -> None:
        self._root = root
        self._partial = root / partial_name(file_id)
        self._published = root / published_name(file_id)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.fdopen(os.open(self._partial, flags, 0o600), "wb")
        self.write = self._file.write

    def publish(self) -> None:
        with self._file as file:
            file.flush()
            os.fsync(file.fileno())
        try:
            self._partial.rename(self._published)
        except FileNotFoundError:
            _make_folders(self._root)
            self._partial.rename(self._published)
        _sync_folder(self._published.parent)

    def discard(self) -> None:
        # Closing writes what is buffered, which may be what failed.
        with contextlib.suppress(OSError):
            self._file.close()
        self._partial.unlink(missing_ok=True)
        self._published.unlink(missing_ok=True)


def _make_folders(root: Path) -> None:
    """Every folder that a blob may be in, durably: also those that another process has made a moment ago."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("partial", *(f"{number:02x}" for number in range(256))):
        (root / name).mkdir(mode=0o700, exist_ok=True)
    _sync_folder(root)


def _open(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0)


def _sync_folder(path: Path) -> None:
    """A rename is on disk once its folder is."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
