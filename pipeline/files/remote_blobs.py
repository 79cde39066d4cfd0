"""Blobs behind any fsspec URL (``s3://bucket/files``, ``gs://…``, ``sftp://…``), and the choice between that and a directory."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncGenerator
from typing import Any

import fsspec

from pipeline.errors import ServerError
from pipeline.files.blobs import (
    CHUNK_BYTES,
    THREADS,
    BlobMissing,
    Blobs,
    BlobWriter,
    DirectoryBlobs,
    ThreadedWriter,
    partial_name,
    published_name,
)
from pipeline.files.threads import Threads

_URL = re.compile(r"(?P<protocol>[a-z0-9+]+)://(?P<rest>.*)", re.DOTALL)
_LOCAL = ("file", "local")
#: Bytes of one read: each is a request of its own to the other side.
READ_BYTES = 4 * CHUNK_BYTES


class FilesUrlRefused(ServerError):
    """``files_url`` cannot be used; the service does not start with it."""


def open_blobs(url: str) -> Blobs:
    """The blobs of a directory (a path, or ``file://``) or of an fsspec URL. Credentials are the driver's own affair: its
    environment variables and configuration files.

    Raises:
        FilesUrlRefused: names the protocol and what is missing.
    """
    parts = _URL.match(url)
    if parts is None:
        return DirectoryBlobs(url)
    if parts["protocol"] in _LOCAL:
        return DirectoryBlobs(parts["rest"])
    try:
        filesystem, root = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError, OSError) as error:
        # The driver's message may quote the URL, and that may hold a password.
        raise FilesUrlRefused(
            f"files_url: {parts['protocol']}:// cannot be opened ({type(error).__name__}); its fsspec driver must be installed"
        ) from None
    return RemoteBlobs(filesystem, root)


class RemoteBlobs:
    """Blobs on an ``fsspec`` file system."""

    def __init__(self, filesystem: Any, root: str) -> None:
        self._filesystem = filesystem
        self._root = root.rstrip("/")
        self._threads = Threads(THREADS, "files")

    async def create(self, file_id: str) -> BlobWriter:
        partial, published = self._path(partial_name(file_id)), self._path(published_name(file_id))
        writer = await self._threads.run(_RemoteWriter, self._filesystem, partial, published)
        return ThreadedWriter(self._threads, writer)

    async def read(self, file_id: str, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        path = self._path(published_name(file_id))
        while start < stop:
            try:
                data = await self._threads.run(
                    self._filesystem.cat_file, path, start=start, end=min(stop, start + READ_BYTES)
                )
            except FileNotFoundError:
                raise BlobMissing from None
            if not data:
                raise BlobMissing
            start += len(data)
            yield data

    async def remove(self, file_id: str) -> None:
        for name in (published_name(file_id), partial_name(file_id)):
            await self._threads.run(_remove, self._filesystem, self._path(name))

    def close(self) -> None:
        self._threads.close()

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"


class _RemoteWriter:
    def __init__(self, filesystem: Any, partial: str, published: str) -> None:
        filesystem.makedirs(partial.rpartition("/")[0], exist_ok=True)
        self._filesystem = filesystem
        self._file = filesystem.open(partial, "wb")
        self._partial = partial
        self._published = published
        self.write = self._file.write

    def publish(self) -> None:
        self._file.close()
        self._filesystem.makedirs(self._published.rpartition("/")[0], exist_ok=True)
        self._filesystem.mv(self._partial, self._published)

    def discard(self) -> None:
        # Not every driver can abort a write; all can end it, and what it leaves has its partial name.
        with contextlib.suppress(OSError, ValueError):
            self._file.close()
        _remove(self._filesystem, self._partial)
        _remove(self._filesystem, self._published)


def _remove(filesystem: Any, path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        filesystem.rm_file(path)
