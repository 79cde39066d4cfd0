"""The processes of the system under measurement: found whatever they do to their parents, weighed, and ended."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from deployments.local.processes import DIE_WITH_PARENT

_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """From now on every descendant whose parent ends becomes a child of this process, so that none is lost; and SIGTERM
    ends this process as Ctrl-C does, through whatever cleans up."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    # Ignored in the background, and by the systems started there, which are stopped with it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def start(command: Sequence[str], *, environ: Mapping[str, str], cwd: Path, output: Path) -> subprocess.Popen[bytes]:
    """Start a system in a session of its own, its output in a file."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-ISc", DIE_WITH_PARENT, str(os.getpid()), *command],
            cwd=cwd,
            env=dict(environ),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes], *, grace_s: float) -> None:
    """Ctrl-C, then, after the grace, kill whatever this process has as descendants; returns when they are gone."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
    deadline = time.monotonic() + 15
    while left := descendants():
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if time.monotonic() > deadline:
            raise RuntimeError(f"processes {left} do not end")
        time.sleep(0.1)
    process.poll()


def descendants() -> list[int]:
    """Every process below this one. This process runs one system at a time, so all of them are that system's."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, frontier = [], [os.getpid()]
    while frontier:
        frontier = [child for pid in frontier for child in children.get(pid, [])]
        found += frontier
    return found


def memory_mb() -> dict[str, float]:
    """Proportional set size of every descendant, MiB: shared pages are split among those who share them, so the sum is
    what the system takes. Keys are pid and name."""
    sizes: dict[str, float] = {}
    for pid in descendants():
        with contextlib.suppress(OSError, ValueError):
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            kib = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
            name = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            sizes[f"{pid} {_without_folders(name)[:60]}"] = round(kib / 1024, 1)
    return sizes


def _without_folders(command: str) -> str:
    """Results are published; where this machine keeps its files is nobody's business."""
    return " ".join(word.rsplit("/", 1)[-1] if word.startswith("/") else word for word in command.split())


def cpu_seconds() -> dict[str, float]:
    """CPU time that every descendant has used so far; keys are pid and command line."""
    used: dict[str, float] = {}
    for pid in descendants():
        with contextlib.suppress(OSError):
            seconds = _cpu_seconds(pid)
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            used[f"{pid} {_without_folders(command)}"] = seconds
    return used


def own_cpu_seconds() -> float:
    """CPU time that this process has used so far."""
    return _cpu_seconds(os.getpid())


def _cpu_seconds(pid: int) -> float:
    stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
