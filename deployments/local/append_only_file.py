"""What a power loss leaves at the end of the embedded store's append-only file, and how it is taken away.

The server itself forgives a command that was cut off. It does not forgive NULs, which a file system leaves where a file had grown
but its bytes had not reached the disk: nothing that was synced, so nothing that was acknowledged, is there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

_CHUNK_BYTES = 1024**2


@dataclass(frozen=True, kw_only=True, slots=True)
class Repair:
    """One file without its end."""

    file: Path
    #: The file as it was.
    copy: Path
    #: How many NULs were cut off.
    cut_bytes: int


def cut_nuls(folder: Path) -> Repair | None:
    """Cut the NULs off the file that the server appended to last; None if it does not end in any. The server may not run.

    Raises:
        OSError: it could not be read, copied or cut; then it is as it was.
    """
    file = _last_increment(folder)
    if file is None:
        return None
    size = file.stat().st_size
    kept = _size_without_nuls(file, size)
    if kept == size:
        return None
    copy = file.with_name(f"{file.name}.{time.strftime('%Y%m%d-%H%M%S')}.damaged")
    shutil.copy2(file, copy)
    with file.open("r+b") as opened:
        opened.truncate(kept)
        os.fsync(opened.fileno())
    return Repair(file=file, copy=copy, cut_bytes=size - kept)


def size(folder: Path) -> int:
    """Bytes of all files that it consists of, one that is just written anew among them."""
    total = 0
    for file in folder.glob("appendonlydir/*"):
        with contextlib.suppress(FileNotFoundError):  # a rewrite is through
            total += file.stat().st_size
    return total


def _last_increment(folder: Path) -> Path | None:
    """The file that is appended to, by the server's manifest: lines such as ``file NAME seq 2 type i``, in order of age."""
    for manifest in folder.glob("appendonlydir/*.manifest"):
        lines = [line.split() for line in manifest.read_text(encoding="utf-8", errors="replace").splitlines()]
        entries = [dict(zip(words[::2], words[1::2], strict=False)) for words in lines]
        names = [entry["file"] for entry in entries if entry.get("type") == "i" and "file" in entry]
        if names:
            return manifest.with_name(names[-1])
    return None


def _size_without_nuls(file: Path, size: int) -> int:
    with file.open("rb") as opened:
        while size:
            start = max(0, size - _CHUNK_BYTES)
            opened.seek(start)
            rest = opened.read(size - start).rstrip(b"\0")
            if rest:
                return start + len(rest)
            size = start
    return 0
