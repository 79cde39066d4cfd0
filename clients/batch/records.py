"""The output and the error file: a JSON object per finished line, appended whole, found again after a kill -9."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from clients.batch.errors import BatchStopped


class LineSet:
    """A set of line numbers in one bit each: a million lines take 125 kB."""

    def __init__(self) -> None:
        self._bits = bytearray()
        self.count = 0

    def add(self, number: int) -> None:
        byte, bit = divmod(number, 8)
        if byte >= len(self._bits):
            self._bits.extend(bytes(max(byte + 1 - len(self._bits), 4096)))
        if not self._bits[byte] & 1 << bit:
            self._bits[byte] |= 1 << bit
            self.count += 1

    def __contains__(self, number: int) -> bool:
        byte, bit = divmod(number, 8)
        return byte < len(self._bits) and bool(self._bits[byte] & 1 << bit)


class Records:
    """One of the files, open for appending. What it holds is in the system's hands when ``write`` returns: the death of this
    process loses nothing, and what the death of the machine loses is asked for again, under the same ids."""

    def __init__(self, path: Path, found: LineSet, *, lines: int) -> None:
        """Open the file, make it if there is none, and add the lines that it has to ``found``. A last line that was cut off
        is removed.

        Args:
            lines: how many the input has.

        Raises:
            BatchStopped: it cannot be used, or holds something else.
        """
        self.path = path
        #: Records that were there before.
        self.before = 0
        try:
            self._file = path.open("ab+", buffering=0)
            whole = self._scan(found, lines)
            if whole < os.fstat(self._file.fileno()).st_size:
                self._file.truncate(whole)
        except OSError as error:
            raise BatchStopped(f"{path} cannot be used: {error.strerror}") from None

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a record. Raises BatchStopped."""
        left = memoryview(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise BatchStopped(f"{self.path} cannot be written: {error.strerror}") from None

    def close(self) -> None:
        """Raises BatchStopped if what was written is not on the disk."""
        try:
            os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            raise BatchStopped(f"{self.path} cannot be written: {error.strerror}") from None

    def _scan(self, found: LineSet, lines: int) -> int:
        """Where the last whole record ends, bytes."""
        end = 0
        with self.path.open("rb") as file:
            for count, raw in enumerate(file, start=1):
                if not raw.endswith(b"\n"):
                    break
                try:
                    number = orjson.loads(raw)["line"]
                except (orjson.JSONDecodeError, TypeError, KeyError, IndexError):
                    number = None
                if not isinstance(number, int) or not 1 <= number <= lines:
                    raise BatchStopped(
                        f"{self.path}: its line {count} is no record of a line of this input; name another output"
                    )
                found.add(number)
                self.before += 1
                end += len(raw)
        return end
