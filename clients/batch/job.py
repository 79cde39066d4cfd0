"""The job file beside the output: what a run needs to know to go on where another one was killed.

It holds the job's name, which the ids of its prompts are made of, and what the input was when it began. Whoever runs holds a lock
on it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
from dataclasses import asdict, dataclass
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

import orjson

from clients.batch.errors import BatchStopped
from clients.batch.lines import Extent

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_NAME_RULE = "1 to 128 letters, digits, dots, hyphens and underscores, beginning with a letter or digit"
_PIECE = 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Fingerprint:
    """What an input was, as far as its lines were whole."""

    bytes: int
    #: Of those bytes.
    sha256: str
    lines: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One input on its way to one output."""

    name: str
    input: Fingerprint

    def prompt_id(self, line: int) -> str:
        """The id of the prompt of a line: the service runs an id once, however often it is submitted."""
        return f"{self.name}:{line}"


class JobFile:
    """``<output>.job``, locked."""

    def __init__(self, output: Path, errors: Path) -> None:
        """
        Args:
            errors: where the lines go that get no answer.

        Raises:
            BatchStopped: it cannot be used, or another run writes to the same output.
        """
        self.path = output.with_name(output.name + ".job")
        self._output = output
        self._errors = errors
        try:
            self._file: BinaryIO = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), "rb+")
        except OSError as error:
            raise BatchStopped(f"{self.path} cannot be used: {error.strerror}") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise BatchStopped(f"another run is writing to {output}") from None

    def begin(self, source: BufferedReader, extent: Extent, name: str | None) -> Job:
        """The job of this input and output: the one that was begun before, or a new one.

        Args:
            source: the input; it is left at its beginning.
            extent: how much of it counts.
            name: of a new job; None: a random one, so that another output is another job.

        Raises:
            BatchStopped: the input is another one than before, the output or the error file belongs to no job, or the name is
                wrong.
        """
        if name is not None and not _NAME.match(name):
            raise BatchStopped(f"--job: got {name[:128]!r}, allowed are {_NAME_RULE}")
        known = self._read()
        if known is None:
            if _has_content(self._output):
                raise BatchStopped(f"{self._output} is not empty, and no job of its own; name another output")
            if _has_content(self._errors):
                # The lines that it names would count as done.
                raise BatchStopped(
                    f"{self._errors} is not empty, and of another job; remove it, or name another one with --errors"
                )
            now = fingerprint(source, extent.bytes)
            return self._write(Job(name=name or f"batch-{secrets.token_hex(8)}", input=now))
        if name not in (None, known.name):
            raise BatchStopped(f"--job: got {name!r}, but {self._output} belongs to {known.name}; name another output")
        try:
            now = fingerprint(source, extent.bytes, check=known.input)
        except Changed:
            raise BatchStopped(
                "the input has changed since this output was begun (lines may only be added at its end); name another output, "
                f"or remove {self._output}, {self._errors} and {self.path} to begin anew"
            ) from None
        return self._write(Job(name=known.name, input=now))

    def close(self) -> None:
        self._file.close()

    def _read(self) -> Job | None:
        """The job in the file, None if there is none: what was cut off while it was written began nothing."""
        self._file.seek(0)
        try:
            raw = orjson.loads(self._file.read())
            return Job(name=raw["name"], input=Fingerprint(**raw["input"]))
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return None

    def _write(self, job: Job) -> Job:
        try:
            self._file.seek(0)
            self._file.write(orjson.dumps(asdict(job), option=orjson.OPT_APPEND_NEWLINE))
            self._file.truncate()
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise BatchStopped(f"{self.path} cannot be written: {error.strerror}") from None
        return job


class Changed(Exception):
    """An input is not what it was."""


def fingerprint(source: BufferedReader, size: int, *, check: Fingerprint | None = None) -> Fingerprint:
    """Read the input once, a piece at a time; it is left at its beginning.

    Args:
        size: how much of it counts, bytes.
        check: what it was before, which counts in any case. More lines at the end are fine.

    Raises:
        Changed: it is not what it was.
    """
    size = max(size, check.bytes if check else 0)
    digest, seen, lines, last = hashlib.sha256(), 0, 0, b"\n"
    source.seek(0)
    while piece := source.read(min(_PIECE, (check.bytes if check and seen < check.bytes else size) - seen)):
        digest.update(piece)
        seen += len(piece)
        lines += piece.count(b"\n")
        last = piece[-1:]
        if check is not None and seen == check.bytes:
            ends_line = last == b"\n" or source.peek(1)[:1] in (b"", b"\n")
            if digest.hexdigest() != check.sha256 or not ends_line:
                raise Changed
    if check is not None and seen < check.bytes:
        raise Changed
    source.seek(0)
    return Fingerprint(bytes=seen, sha256=digest.hexdigest(), lines=lines + (last != b"\n"))


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0
