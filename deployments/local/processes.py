"""Which processes are ours: died-with-parent starts, pids that cannot be mistaken, leftovers of a killed launcher.

A pid alone may mean another process by now; a pid with its start time does not. Linux only: it reads ``/proc``.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

#: Runs a command that the kernel kills when the thread that started it is gone. A separate program and not a
#: ``preexec_fn``: forking a process that has threads (Ray's) into Python code may deadlock.
DIE_WITH_PARENT = (
    "import ctypes, os, signal, sys\n"
    "ctypes.CDLL(None).prctl(1, signal.SIGKILL)\n"  # PR_SET_PDEATHSIG
    "if os.getppid() != int(sys.argv[1]): sys.exit('the parent died before its child started')\n"
    "os.execv(sys.argv[2], sys.argv[2:])\n"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessId:
    """One process, for ever: no later process with the same pid is equal."""

    pid: int
    #: Clock ticks after boot, as in ``/proc/<pid>/stat``.
    started: int

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """The process that has this pid now; None when there is none (a zombie counts as none)."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return None
        # The name in parentheses may hold spaces and parentheses itself.
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else cls(pid=pid, started=int(fields[19]))

    @property
    def is_alive(self) -> bool:
        return ProcessId.of(self.pid) == self


def living(processes: Iterable[ProcessId]) -> list[ProcessId]:
    return [process for process in processes if process.is_alive]


def wait_gone(processes: Iterable[ProcessId], timeout_s: float) -> list[ProcessId]:
    """Wait until the processes have ended; returns those that still live after the timeout."""
    deadline = time.monotonic() + timeout_s
    left = []
    for process in processes:
        try:
            descriptor = os.pidfd_open(process.pid)
        except ProcessLookupError:
            continue
        try:
            if process.is_alive:
                select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        finally:
            os.close(descriptor)
        if process.is_alive:
            left.append(process)
    return left


def stop_all(processes: Iterable[ProcessId], grace_s: float) -> None:
    """SIGTERM, then SIGKILL after the grace period to whatever still lives. Only to these very processes."""
    left = living(processes)
    _send(left, signal.SIGTERM)
    left = wait_gone(left, grace_s)
    _send(left, signal.SIGKILL)
    wait_gone(left, 5)


def _send(processes: Iterable[ProcessId], signal_number: signal.Signals) -> None:
    for process in processes:
        if process.is_alive:
            with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
                os.kill(process.pid, signal_number)


def using_folder(folder: Path, programs: Iterable[Path]) -> list[ProcessId]:
    """Processes of this user that belong to a folder, without ourselves: they run one of the programs (files, or
    folders of programs) and name the folder in their command line or have a file of it open for writing.

    So every process of a Ray session is found by the session's folder: the daemons name it, workers (which rename
    themselves) and their children write their logs there. Somebody's ``tail -f`` of such a log is not among them.
    """
    needle = f"{folder}/"
    allowed = [program.resolve() for program in programs]
    return [
        process
        for process in _own_processes()
        if _runs(process.pid, allowed) and (_names(process.pid, needle) or _writes(process.pid, needle))
    ]


def _own_processes() -> Iterator[ProcessId]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if entry.stat().st_uid == os.getuid() and (process := ProcessId.of(int(entry.name))):
                    yield process


def _runs(pid: int, programs: list[Path]) -> bool:
    try:
        program = Path(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return False  # gone, or not ours to look into
    return any(program == allowed or allowed in program.parents for allowed in programs)


def _names(pid: int, needle: str) -> bool:
    try:
        return needle.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _writes(pid: int, needle: str) -> bool:
    try:
        descriptors = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    for descriptor in descriptors:
        with contextlib.suppress(OSError):  # closed meanwhile
            if os.readlink(f"/proc/{pid}/fd/{descriptor}").startswith(needle):
                flags = Path(f"/proc/{pid}/fdinfo/{descriptor}").read_text(encoding="ascii").split("flags:")[1]
                if int(flags.split()[0], 8) & os.O_ACCMODE != os.O_RDONLY:
                    return True
    return False


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """What a running launcher keeps in ``run.json``, so that the next one can clear up after a kill -9 and tools find
    the parts. It holds the store's password: mode 0600.
    """

    launcher: ProcessId
    #: Base URL of the service.
    url: str
    #: Folder of this launcher's Ray sessions; no other Ray uses it.
    ray_folder: str
    #: host:port of the embedded Ray, for ``ray.init(address=...)``; empty until it runs.
    ray_address: str = ""
    #: The embedded store, None when REDIS_URL names another one.
    store: ProcessId | None = None
    redis_url: str = ""

    def write(self, path: Path) -> None:
        partial = path.with_suffix(".partial")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(self), file, indent=1)
        partial.replace(path)

    @classmethod
    def read(cls, path: Path) -> RunRecord | None:
        """The record, None when there is none or it was cut off."""
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            raw["launcher"] = ProcessId(**raw["launcher"])
            raw["store"] = ProcessId(**raw["store"]) if raw["store"] else None
            return cls(**raw)
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
