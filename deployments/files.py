"""The file store as the settings describe it, for whoever keeps or reads files: the ingress, replicas that make images."""

from __future__ import annotations

from pathlib import Path

from redis.asyncio import Redis

from deployments.settings import Settings
from pipeline.files.file_store import FileStore
from pipeline.files.record import FileLimits
from pipeline.files.remote_blobs import open_blobs
from pipeline.store.files import FileIndex
from pipeline.store.keys import Keys


def open_file_store(client: Redis, settings: Settings) -> FileStore:
    """May block for a moment while a driver is imported. Raises FilesUrlRefused."""
    limits = FileLimits(
        file_bytes=settings.max_file_bytes, user_bytes=settings.user_files_bytes, user_files=settings.user_files
    )
    blobs = open_blobs(settings.files_url or str(Path(settings.data_dir) / "files"))
    return FileStore(FileIndex(client, Keys(settings.redis_namespace)), blobs, limits)
