"""Blobs in a directory: names, modes, links; what ``files_url`` opens."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.files.blobs import Blobs, DirectoryBlobs, partial_name, published_name
from pipeline.files.record import is_file_id, new_file_id
from pipeline.files.remote_blobs import FilesUrlRefused, RemoteBlobs, open_blobs

FILE_ID = "file-3f2504e0-4f89-41d3-9a0c-0305e82c3301"


@pytest.fixture
def blobs(tmp_path: Path) -> Iterator[DirectoryBlobs]:
    blobs = DirectoryBlobs(tmp_path / "files")
    yield blobs
    blobs.close()


async def write(blobs: Blobs, file_id: str, data: bytes) -> None:
    writer = await blobs.create(file_id)
    await writer.write(data)
    await writer.publish()


async def read(blobs: Blobs, file_id: str, stop: int) -> bytes:
    return b"".join([piece async for piece in blobs.read(file_id, 0, stop)])


def test_ids_are_random_and_of_one_shape():
    ids = {new_file_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(is_file_id(one) for one in ids)
    # Unlike in a version 4 UUID no bit is fixed: 16 values of each digit.
    assert {one[19] for one in ids} == set("0123456789abcdef")


@pytest.mark.parametrize(
    "wrong",
    ["", "file-", "file-..", "../x", FILE_ID.upper(), FILE_ID + "\n", FILE_ID + "/../x", FILE_ID[:-1], "upl" + FILE_ID],
)
def test_what_is_no_id_never_becomes_a_path(wrong: str):
    assert not is_file_id(wrong)
    for name in (partial_name, published_name):
        with pytest.raises(ValueError, match="not a file id"):
            name(wrong)


async def test_a_blob_is_visible_once_it_is_whole_and_only_to_its_owner(blobs: DirectoryBlobs, tmp_path: Path):
    published, partial = tmp_path / "files" / "3f" / FILE_ID, tmp_path / "files" / "partial" / FILE_ID
    writer = await blobs.create(FILE_ID)
    await writer.write(b"hello")
    assert (published.exists(), partial.exists()) == (False, True)
    await writer.publish()
    assert (published.read_bytes(), partial.exists()) == (b"hello", False)
    assert published.stat().st_mode & 0o777 == 0o600
    assert published.parent.stat().st_mode & 0o777 == 0o700


async def test_what_is_there_already_is_neither_followed_nor_overwritten(blobs: DirectoryBlobs, tmp_path: Path):
    target = tmp_path / "target"
    target.write_bytes(b"secret")
    for name in (partial_name(FILE_ID), published_name(FILE_ID)):
        link = tmp_path / "files" / name
        link.parent.mkdir(parents=True)
        link.symlink_to(target)
    with pytest.raises(FileExistsError):
        await blobs.create(FILE_ID)
    with pytest.raises(OSError, match="symbolic links"):
        await read(blobs, FILE_ID, 6)
    await blobs.remove(FILE_ID)
    assert target.read_bytes() == b"secret"


async def test_folders_that_somebody_removed_are_made_again(blobs: DirectoryBlobs, tmp_path: Path):
    await write(blobs, FILE_ID, b"x")
    await blobs.remove(FILE_ID)
    (tmp_path / "files" / "partial").rmdir()
    writer = await blobs.create(FILE_ID)
    (tmp_path / "files" / "3f").rmdir()
    await writer.write(b"y")
    await writer.publish()
    assert await read(blobs, FILE_ID, 1) == b"y"


async def test_removing_may_be_repeated(blobs: DirectoryBlobs):
    await blobs.remove(FILE_ID)
    await write(blobs, FILE_ID, b"x")
    await blobs.remove(FILE_ID)
    await blobs.remove(FILE_ID)


@pytest.mark.parametrize("form", ["{}", "file://{}", "local://{}"])
async def test_a_path_or_a_file_url_is_a_directory(tmp_path: Path, form: str):
    blobs = open_blobs(form.format(tmp_path))
    assert isinstance(blobs, DirectoryBlobs)
    await write(blobs, FILE_ID, b"x")
    assert (tmp_path / "3f" / FILE_ID).exists()
    blobs.close()


async def test_any_other_url_is_opened_by_its_driver():
    blobs = open_blobs("memory://bucket/files")
    assert isinstance(blobs, RemoteBlobs)
    await write(blobs, FILE_ID, b"x")
    again = open_blobs("memory://bucket/files/")
    assert await read(again, FILE_ID, 1) == b"x"
    for one in (blobs, again):
        await one.remove(FILE_ID)
        one.close()


def test_a_url_without_a_driver_stops_the_start_without_its_password():
    with pytest.raises(FilesUrlRefused, match="files_url: nosuch:// cannot be opened") as refused:
        open_blobs("nosuch://user:hunter2@host/files")
    assert "hunter2" not in refused.value.message
