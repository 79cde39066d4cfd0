"""Ids of files in a request: each must be a file of the caller's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pipeline.errors import InvalidField
from pipeline.files.record import FileRecord


class FileLookup(Protocol):
    """Of the file store, what it takes."""

    async def find(self, owner: str, file_ids: Sequence[str]) -> list[FileRecord | None]: ...


async def own_files(files: FileLookup, user_id: str, file_ids: Sequence[str]) -> list[FileRecord]:
    """The user's files under these ids, in order. (One may be deleted at any time after: it is missing then.)

    Raises:
        InvalidField: of ``fileIds``; the user has no file under one of the ids, whether or not somebody else has.
        StoreUnavailable: it cannot be told.
    """
    if not file_ids:
        return []
    found = []
    for file_id, record in zip(file_ids, await files.find(user_id, file_ids), strict=True):
        if record is None:
            raise InvalidField("fileIds", file_id, "the ids of files of your own")
        found.append(record)
    return found
