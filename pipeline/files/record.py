"""A file as the store knows it, its id, and what a user may keep."""

from __future__ import annotations

import re
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.errors import ClientError, TooLarge, TooManyRequests

_FILE_ID = re.compile(r"file-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


class FileTooLarge(TooLarge):
    """The file is larger than one file may be."""


class QuotaExceeded(TooLarge):
    """The user's files take all the space they may take."""


class TooManyUploads(TooManyRequests):
    """Too many uploads of this user are under way."""


class UploadTooSlow(ClientError):
    """The upload took too long."""

    status = 408


def new_file_id() -> str:
    """``file-`` and a UUID (contract §0.6) whose 128 bits are all random: a version 4 UUID has 122."""
    return f"file-{uuid.UUID(bytes=secrets.token_bytes(16))}"


def is_file_id(text: str) -> bool:
    """Whether an id may have come from ``new_file_id``; nothing else ever becomes part of a path."""
    return _FILE_ID.match(text) is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class FileLimits:
    """What one user may keep."""

    #: Largest file, bytes.
    file_bytes: int
    #: All files of a user together, bytes; uploads under way count with what they may become.
    user_bytes: int
    #: Number of files of a user.
    user_files: int


@dataclass(frozen=True, kw_only=True, slots=True)
class MadeFile:
    """A file that an attempt made: its bytes are there, and it becomes the user's with the end of the prompt, or is swept."""

    id: str
    #: Cleaned (``names.clean_name``).
    name: str
    content_type: str
    #: Bytes.
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class FileRecord:
    """Metadata of a file whose bytes are all there."""

    id: str
    user_id: str
    #: As the user called it, cleaned (``names.clean_name``). Never part of a path.
    name: str
    #: What it is served as (``content.content_type_of``).
    content_type: str
    #: Bytes.
    size: int
    #: Microseconds since the epoch by the store's clock; no two files of a user share one.
    created_us: int
    #: Where it was downloaded from; empty for an upload.
    url: str

    @classmethod
    def from_record(cls, file_id: str, record: Mapping[str, str]) -> FileRecord:
        return cls(
            id=file_id,
            user_id=record["user"],
            name=record["name"],
            content_type=record["type"],
            size=int(record["size"]),
            created_us=int(record["created"]),
            url=record.get("url", ""),
        )
