"""The scripts behind files, where only the order of two calls or the clock can show what they are for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from pipeline.files.blobs import DirectoryBlobs
from pipeline.files.file_store import FileStore
from pipeline.files.record import FileLimits, UploadTooSlow, new_file_id
from pipeline.store.connection import connect_impatient
from pipeline.store.files import FileIndex
from pipeline.store.keys import Keys

KEYS = Keys("test")
LIMITS = FileLimits(file_bytes=100, user_bytes=250, user_files=10)


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    client = connect_impatient(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
def index(client: Redis) -> FileIndex:
    return FileIndex(client, KEYS)


async def begin(index: FileIndex, wanted: int = 100) -> str:
    file_id = new_file_id()
    await index.begin(file_id, "usr", LIMITS, wanted=wanted, dead_after_s=60)
    return file_id


async def keep(index: FileIndex, file_id: str, size: int = 1) -> Any:
    record, _ = await index.keep(file_id, "usr", name="a", content_type="b", size=size, url="")
    return record


async def test_what_is_dropped_or_kept_already_is_not_kept(index: FileIndex, client: Redis) -> None:
    dropped, kept = await begin(index), await begin(index)
    assert await index.drop_dead(dropped)
    await keep(index, kept)
    for file_id in (dropped, kept, new_file_id()):
        with pytest.raises(UploadTooSlow):
            await keep(index, file_id, 50)
    assert [record.id for record in await index.uploads("usr")] == [kept]
    assert await client.hgetall(KEYS.file_usage("usr")) == {b"bytes": b"1", b"files": b"1", b"writing": b"0"}
    assert not await index.drop_dead(kept)


async def test_a_blob_that_is_published_after_its_upload_was_swept_is_removed(
    index: FileIndex, client: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = FileStore(index, DirectoryBlobs(tmp_path), LIMITS)
    keep_really = index.keep

    async def too_late(file_id: str, *arguments: Any, **named: Any) -> Any:
        assert await index.drop_dead(file_id)
        await index.settled(file_id)
        return await keep_really(file_id, *arguments, **named)

    async def stream() -> AsyncIterator[bytes]:
        yield b"late"

    monkeypatch.setattr(index, "keep", too_late)
    with pytest.raises(UploadTooSlow):
        await files.put("usr", stream(), "", "")
    assert not any(path.is_file() for path in tmp_path.rglob("*"))  # noqa: ASYNC240
    assert await client.keys("*") == []
    files.close()


async def test_what_is_reserved_is_what_is_left(index: FileIndex) -> None:
    granted = [await index.begin(new_file_id(), "usr", LIMITS, wanted=100, dead_after_s=60) for _ in range(3)]
    assert granted == [100, 100, 50]


async def test_times_of_creation_go_on_when_the_clock_goes_back(index: FileIndex, client: Redis) -> None:
    """Pages go by them."""
    future = 4_000_000_000_000_000
    first = await keep(index, await begin(index, 1))
    await client.zadd(KEYS.user_files("uploads", "usr"), {first.id: future})
    second = await keep(index, await begin(index, 1))
    third = await keep(index, await begin(index, 1))
    assert [second.created_us, third.created_us] == [future + 1, future + 2]


async def test_dropping_a_file_again_puts_the_sweep_off(index: FileIndex, client: Redis) -> None:
    file_id = await begin(index)
    for _ in range(2):
        await client.zadd(KEYS.unsettled_files(), {file_id: 1}, xx=True)
        assert await index.due(10) == [file_id]
        assert await index.drop_dead(file_id)
        assert await index.due(10) == []
    await index.settled(file_id)
    assert await index.drop_dead(file_id)
    assert await client.keys("*") == []
