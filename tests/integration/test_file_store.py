"""Files on a real Valkey, with blobs in a directory and on an fsspec file system."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
from redis.asyncio import Redis

from pipeline.errors import NotFound, StoreUnavailable
from pipeline.files import file_store
from pipeline.files.blobs import CHUNK_BYTES, BlobMissing, Blobs, DirectoryBlobs
from pipeline.files.file_store import FileStore, FilesUnavailable
from pipeline.files.record import (
    FileLimits,
    FileRecord,
    FileTooLarge,
    QuotaExceeded,
    TooManyUploads,
    UploadTooSlow,
    new_file_id,
)
from pipeline.files.remote_blobs import RemoteBlobs
from pipeline.store.connection import connect_impatient
from pipeline.store.files import MOST_WRITING, FileIndex
from pipeline.store.keys import Keys

KEYS = Keys("test")
LIMITS = FileLimits(file_bytes=3 * CHUNK_BYTES, user_bytes=5 * CHUNK_BYTES, user_files=4)
ALICE, BOB = "usr-alice", "usr-bob"


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    client = connect_impatient(redis_url)
    yield client
    await client.aclose()


class Storage:
    """Blobs and a look behind them."""

    def __init__(self, blobs: Blobs, listing: Any) -> None:
        self.blobs = blobs
        self.names = listing


def files_below(root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob("*") if path.is_file())


@pytest.fixture(params=["directory", "fsspec"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    if request.param == "directory":
        root = tmp_path / "files"
        blobs: Blobs = DirectoryBlobs(root)
        yield Storage(blobs, lambda: files_below(root))
    else:
        root_name = f"/bucket-{secrets.token_hex(4)}"
        memory = fsspec.filesystem("memory")
        blobs = RemoteBlobs(memory, root_name)
        yield Storage(blobs, lambda: sorted(name.rpartition("/")[2] for name in memory.find(root_name)))
    blobs.close()


@pytest.fixture
def index(client: Redis) -> FileIndex:
    return FileIndex(client, KEYS)


@pytest.fixture
def files(index: FileIndex, storage: Storage) -> FileStore:
    return FileStore(index, storage.blobs, LIMITS)


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def read(files: FileStore, record: FileRecord, start: int = 0, stop: int | None = None) -> bytes:
    return b"".join([piece async for piece in files.read(record, start, stop)])


async def put(files: FileStore, data: bytes = b"hello", owner: str = ALICE, url: str = "") -> FileRecord:
    return await files.put(owner, stream(data), "text/plain", "hello.txt", url=url)


async def usage(client: Redis, user: str = ALICE) -> dict[str, int]:
    return {name.decode(): int(value) for name, value in (await client.hgetall(KEYS.file_usage(user))).items()}


async def assert_nothing_left(client: Redis, storage: Storage) -> None:
    assert storage.names() == []
    assert await client.keys("test:f*") == []


async def make_due(client: Redis, file_id: str) -> None:
    assert await client.zadd(KEYS.unsettled_files(), {file_id: 1}, xx=True, ch=True) == 1, "nobody would sweep it"


async def test_a_file_comes_back_as_it_was_put(files: FileStore, storage: Storage) -> None:
    data = os.urandom(2 * CHUNK_BYTES + 17)
    record = await files.put(
        ALICE, stream(data[:5], data[5:70_000], b"", data[70_000:]), "text/html", "../../etc/passwd\r\n"
    )
    assert (record.user_id, record.name, record.size) == (ALICE, "passwd", len(data))
    assert record.content_type == "application/octet-stream"
    assert await files.get(ALICE, record.id) == record
    assert await read(files, record) == data
    assert await read(files, record, 3, 9) == data[3:9]
    assert await read(files, record, CHUNK_BYTES - 1, CHUNK_BYTES + 1) == data[CHUNK_BYTES - 1 : CHUNK_BYTES + 1]
    assert storage.names() == [record.id]


async def test_an_empty_file_is_a_file(files: FileStore, client: Redis, storage: Storage) -> None:
    record = await put(files, b"")
    assert await read(files, record) == b""
    await files.delete(ALICE, record.id)
    await assert_nothing_left(client, storage)


async def test_a_user_has_only_their_own(files: FileStore) -> None:
    record = await put(files)
    assert await files.find(BOB, [record.id]) == [None]
    assert await files.find(ALICE, [new_file_id(), record.id, "file-../../x", ""]) == [None, record, None, None]
    for wrong in (record.id, new_file_id(), "file-..", "", "x" * 10_000):
        with pytest.raises(NotFound):
            await files.get(BOB, wrong)
        with pytest.raises(NotFound):
            await files.delete(BOB, wrong)
    assert await read(files, record) == b"hello"


async def test_a_deleted_file_is_gone_and_its_space_is_free(files: FileStore, client: Redis, storage: Storage) -> None:
    record = await put(files)
    await files.delete(ALICE, record.id)
    with pytest.raises(NotFound):
        await files.delete(ALICE, record.id)
    with pytest.raises(NotFound):
        await read(files, record)
    await assert_nothing_left(client, storage)


async def test_a_blob_that_somebody_removed_is_said_to_be_missing(files: FileStore, storage: Storage) -> None:
    record = await put(files)
    await storage.blobs.remove(record.id)
    with pytest.raises(BlobMissing):
        await read(files, record)


async def test_too_large_a_file_is_refused_while_it_comes_in(files: FileStore, client: Redis, storage: Storage) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 65_536
            yield b"x" * 65_536

    with pytest.raises(FileTooLarge, match=f"allowed are {LIMITS.file_bytes} bytes"):
        await files.put(ALICE, endless(), "", "")
    assert sent <= LIMITS.file_bytes + CHUNK_BYTES + 65_536
    await assert_nothing_left(client, storage)
    record = await put(files, b"x" * LIMITS.file_bytes)
    assert record.size == LIMITS.file_bytes


async def test_a_users_bytes_are_bounded_to_the_last(files: FileStore, client: Redis) -> None:
    first = await put(files, b"x" * LIMITS.file_bytes)
    rest = LIMITS.user_bytes - LIMITS.file_bytes
    with pytest.raises(QuotaExceeded, match=str(LIMITS.user_bytes)):
        await put(files, b"x" * (rest + 1))
    await put(files, b"x" * rest)
    with pytest.raises(QuotaExceeded):
        await put(files, b"x")
    assert await usage(client) == {"bytes": LIMITS.user_bytes, "files": 2, "writing": 0}
    await put(files, b"x", owner=BOB)
    await files.delete(ALICE, first.id)
    await put(files, b"x" * LIMITS.file_bytes)


async def test_the_number_of_a_users_files_is_bounded(files: FileStore) -> None:
    for _ in range(LIMITS.user_files):
        await put(files)
    with pytest.raises(QuotaExceeded, match=f"{LIMITS.user_files}"):
        await put(files)


class Gate:
    """A stream that sends a chunk, then waits until it may end, or fails."""

    def __init__(self, failure: BaseException | None = None) -> None:
        self.started = asyncio.Event()
        self.go = asyncio.Event()
        self.failure = failure

    async def stream(self) -> AsyncIterator[bytes]:
        yield b"x" * CHUNK_BYTES
        self.started.set()
        await self.go.wait()
        if self.failure:
            raise self.failure
        yield b"end"


async def test_uploads_under_way_count_with_what_they_may_become(files: FileStore, client: Redis) -> None:
    """Else a hundred uploads at once would fill the disk before the first of them is counted."""
    gates = [Gate(), Gate()]
    tasks = [asyncio.create_task(files.put(ALICE, gate.stream(), "", "")) for gate in gates]
    for gate in gates:
        await gate.started.wait()
    assert (await usage(client))["bytes"] == LIMITS.user_bytes
    with pytest.raises(QuotaExceeded):
        await put(files)
    for gate in gates:
        gate.go.set()
    records = await asyncio.gather(*tasks)
    assert {record.size for record in records} == {CHUNK_BYTES + 3}
    assert await usage(client) == {"bytes": 2 * (CHUNK_BYTES + 3), "files": 2, "writing": 0}
    assert records[0].created_us != records[1].created_us
    assert await read(files, records[0]) == b"x" * CHUNK_BYTES + b"end"


async def test_the_uploads_of_one_user_at_a_time_are_bounded(index: FileIndex, storage: Storage) -> None:
    files = FileStore(index, storage.blobs, replace(LIMITS, user_files=100, user_bytes=100 * LIMITS.file_bytes))
    gates = [Gate() for _ in range(MOST_WRITING)]
    tasks = [asyncio.create_task(files.put(ALICE, gate.stream(), "", "")) for gate in gates]
    for gate in gates:
        await gate.started.wait()
    with pytest.raises(TooManyUploads):
        await put(files)
    await put(files, owner=BOB)
    for gate in gates:
        gate.go.set()
    await asyncio.gather(*tasks)
    await put(files)


@pytest.mark.parametrize("how", ["raises", "cancelled"])
async def test_an_upload_that_breaks_off_leaves_nothing(
    files: FileStore, client: Redis, storage: Storage, how: str
) -> None:
    gate = Gate(ConnectionResetError())
    task = asyncio.create_task(files.put(ALICE, gate.stream(), "", ""))
    await gate.started.wait()
    assert await files.uploads(ALICE, limit=10) == []
    if how == "raises":
        gate.go.set()
    else:
        task.cancel()
    with pytest.raises((ConnectionResetError, asyncio.CancelledError)):
        await task
    await assert_nothing_left(client, storage)


async def test_an_upload_has_a_time_limit(
    files: FileStore, client: Redis, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_store, "PUT_S", 0.01)
    with pytest.raises(UploadTooSlow):
        await files.put(ALICE, Gate().stream(), "", "")
    await assert_nothing_left(client, storage)


async def test_an_upload_whose_process_died_is_swept(
    files: FileStore, index: FileIndex, client: Redis, storage: Storage
) -> None:
    """Killed while it wrote, and killed between the blob's publication and its record."""
    for published in (False, True):
        file_id = new_file_id()
        await index.begin(file_id, ALICE, LIMITS, wanted=10, dead_after_s=60)
        writer = await storage.blobs.create(file_id)
        await writer.write(b"x" * 10)
        if published:
            await writer.publish()
        assert await files.sweep() == 0
        assert await files.find(ALICE, [file_id]) == [None]
        await make_due(client, file_id)
        assert await files.sweep() == 1
        await assert_nothing_left(client, storage)


async def test_an_upload_that_was_swept_is_not_kept(files: FileStore, client: Redis, storage: Storage) -> None:
    gate = Gate()
    task = asyncio.create_task(files.put(ALICE, gate.stream(), "", ""))
    await gate.started.wait()
    (file_id,) = await client.zrange(KEYS.unsettled_files(), 0, -1)
    await make_due(client, file_id)
    assert await files.sweep() == 1
    gate.go.set()
    with pytest.raises((UploadTooSlow, FilesUnavailable)):
        await task
    await assert_nothing_left(client, storage)


async def test_a_file_that_is_kept_at_the_last_moment_is_not_swept(
    files: FileStore, index: FileIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = await put(files)

    async def looked_before_it_was_kept(most: int) -> list[str]:
        return [record.id]

    monkeypatch.setattr(index, "due", looked_before_it_was_kept)
    assert await files.sweep() == 0
    assert await read(files, record) == b"hello"


async def test_a_deletion_that_was_cut_short_is_finished_by_the_sweep(
    files: FileStore, index: FileIndex, client: Redis, storage: Storage
) -> None:
    record = await put(files)
    assert await index.drop_kept(record.id, ALICE)
    assert storage.names() == [record.id]
    assert await files.sweep() == 0
    await make_due(client, record.id)
    assert await files.sweep() == 1
    await assert_nothing_left(client, storage)


async def test_replicas_may_sweep_together(files: FileStore, index: FileIndex, client: Redis, storage: Storage) -> None:
    for _ in range(7):
        file_id = new_file_id()
        await index.begin(file_id, secrets.token_hex(4), LIMITS, wanted=10, dead_after_s=60)
        await (await storage.blobs.create(file_id)).publish()
        await make_due(client, file_id)
    kept = await put(files)
    await asyncio.gather(*(FileStore(index, storage.blobs, LIMITS).sweep(5) for _ in range(4)))
    await files.sweep()
    assert storage.names() == [kept.id]
    assert await client.zcard(KEYS.unsettled_files()) == 0


async def test_a_blob_that_cannot_be_removed_does_not_keep_others_waiting(
    index: FileIndex, client: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = DirectoryBlobs(tmp_path)
    files = FileStore(index, blobs, LIMITS)
    stuck, other = new_file_id(), new_file_id()
    remove = blobs.remove

    async def fail_once(file_id: str) -> None:
        if file_id == stuck:
            raise OSError(5, "Input/output error")
        await remove(file_id)

    monkeypatch.setattr(blobs, "remove", fail_once)
    await client.zadd(KEYS.unsettled_files(), {stuck: 1, other: 2})
    assert await files.sweep(1) == 0
    assert await files.sweep(1) == 1
    assert await client.zrange(KEYS.unsettled_files(), 0, -1) == [stuck.encode()]
    blobs.close()


async def test_files_that_the_store_does_not_know_are_left_alone(files: FileStore, tmp_path: Path) -> None:
    """They may be another service's, or newer than the backup the store was restored from."""
    foreign = tmp_path / "files" / "partial" / new_file_id()
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"theirs")
    await files.sweep()
    assert foreign.read_bytes() == b"theirs"


async def test_a_full_disk_is_a_503_without_a_path(
    files: FileStore, client: Redis, storage: Storage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def full(file_id: str) -> Any:
        raise OSError(28, "No space left on device", "/secret/path")

    with monkeypatch.context() as patched:
        patched.setattr(storage.blobs, "create", full)
        with pytest.raises(FilesUnavailable) as refused:
            await put(files)
    assert refused.value.status == 503
    assert "/secret" not in refused.value.message + caplog.text
    await assert_nothing_left(client, storage)


async def test_when_the_store_is_away_at_the_end_the_blob_waits_for_the_sweep(
    files: FileStore, index: FileIndex, client: Redis, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(index, "keep", away)
        with pytest.raises(StoreUnavailable):
            await put(files)
    (file_id,) = storage.names()
    await make_due(client, file_id)
    assert await files.sweep() == 1
    await assert_nothing_left(client, storage)


async def test_a_file_that_is_deleted_while_it_is_read_is_read_to_its_end(index: FileIndex, tmp_path: Path) -> None:
    files = FileStore(index, DirectoryBlobs(tmp_path), LIMITS)
    data = os.urandom(2 * CHUNK_BYTES)
    record = await put(files, data)
    async with aclosing(files.read(record)) as pieces:
        got = await anext(pieces)
        await files.delete(ALICE, record.id)
        got += b"".join([piece async for piece in pieces])
    assert got == data
    assert files_below(tmp_path) == []
    files.close()


async def test_pages_are_newest_first_without_gaps(files: FileStore) -> None:
    records = [await put(files) for _ in range(4)]
    first = await files.uploads(ALICE, limit=3)
    assert first == records[:0:-1]
    assert await files.uploads(ALICE, limit=3, before_us=first[-1].created_us) == records[:1]
    assert await files.uploads(BOB, limit=3) == []


async def test_a_download_takes_the_place_of_the_one_before(files: FileStore, client: Redis, storage: Storage) -> None:
    url = "https://example.com/a.png"
    upload = await put(files)
    first = await put(files, b"one", url=url)
    assert await files.by_url(ALICE, url) == first
    second = await put(files, b"two", url=url)
    assert await files.by_url(ALICE, url) == second
    assert await files.by_url(BOB, url) is None
    assert await files.downloads(ALICE) == [second]
    assert await files.uploads(ALICE, limit=10) == [upload]
    assert storage.names() == sorted([upload.id, second.id])
    await files.delete(ALICE, second.id)
    assert await files.by_url(ALICE, url) is None
    await files.delete(ALICE, upload.id)
    await assert_nothing_left(client, storage)


async def test_what_a_user_calls_a_file_is_in_no_key_and_no_path(
    files: FileStore, client: Redis, storage: Storage
) -> None:
    await files.put(ALICE, stream(b"x"), "", "canary-name.txt", url="https://canary.example/")
    names = [key.decode() for key in await client.keys("*")] + storage.names()
    assert not [name for name in names if "canary" in name]
