"""A program in front of a terminal that the test plays: a pty, so that keys such as Ctrl-C do what they do for people."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07|\x1b[@-_]")


class Terminal:
    """One program; it is killed at the end if it still runs."""

    def __init__(self, command: Sequence[str], *, environ: Mapping[str, str], cwd: str) -> None:
        self._master, slave = pty.openpty()
        #: All that the program has shown, without what steers the terminal.
        self.text = ""

        def own_the_terminal() -> None:
            # Without it Ctrl-C is a character like any other; and whoever runs in the background ignores it, with all children.
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            signal.signal(signal.SIGINT, signal.SIG_DFL)

        self._process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=cwd,
            env={"TERM": "xterm", "COLUMNS": "200", "LINES": "50", **environ},
            start_new_session=True,
            preexec_fn=own_the_terminal,
        )
        os.close(slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._master)

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def until(self, pattern: str, *, timeout_s: float = 60) -> re.Match[str]:
        """Read until the pattern has been shown, behind what was found before; what comes up to it is done with.

        Raises:
            TimeoutError: it did not come; holds what came.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            shown = _ESCAPES.sub("", self.text)
            if match := re.search(pattern, shown):
                self.text = shown[match.end() :]
                return match
            left = deadline - time.monotonic()
            if left <= 0 or not self._read(left):
                raise TimeoutError(f"{pattern!r} was not shown, but {shown!r}")

    def wait(self, *, timeout_s: float = 30) -> int:
        """Read to the end; the exit status."""
        deadline = time.monotonic() + timeout_s
        while self._read(max(0.0, deadline - time.monotonic())):
            pass
        return self._process.wait(max(0.1, deadline - time.monotonic()))

    def _read(self, timeout_s: float) -> bool:
        """Take what the program has written. False if nothing came, or nothing ever will."""
        ready, _, _ = select.select([self._master], [], [], timeout_s)
        if not ready:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # how Linux says that nobody holds the other end
            return False
        self.text += data.decode("utf-8", "replace").replace("\r\n", "\n")
        return bool(data)
