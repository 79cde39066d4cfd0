"""Where the local service keeps its things, what it tells its processes, and the refusals that need no Ray.

Imported before Ray, which reads its switches when it is imported: standard library only.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ServerError

ROOT = Path(__file__).resolve().parent.parent.parent
#: Free space the data directory needs at a start, bytes: the store must be able to write for a while.
NEEDED_BYTES = 1024**3
DEFAULT_PASSWORD = "changeme"


class CannotStart(ServerError):
    """The local service cannot start; the message is the one line that the user sees."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Folders:
    """Absolute paths of one local service."""

    data: Path
    models: Path
    #: Ray's files while it runs. Short, since it holds sockets (107 bytes), and of this service alone, so that a Ray
    #: cluster that the user runs is neither found nor touched.
    ray: Path

    @property
    def store(self) -> Path:
        return self.data / "valkey"

    @property
    def logs(self) -> Path:
        """Ray's and the replicas' of the last run, once it has ended."""
        return self.data / "logs"

    @property
    def lock(self) -> Path:
        return self.data / "run.lock"

    @property
    def ray_token(self) -> Path:
        return self.data / "ray-token"

    @property
    def record(self) -> Path:
        return self.data / "run.json"

    @classmethod
    def of(cls, environ: MutableMapping[str, str]) -> Folders:
        data = Path(environ.get("PROMPT_SVC_DATA_DIR") or ROOT / "data").absolute()
        models = Path(environ.get("PROMPT_SVC_MODELS_DIR") or data / "models").absolute()
        name = hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:8]
        return cls(data=data, models=models, ray=Path(tempfile.gettempdir()) / f"prompt-svc-{os.getuid()}" / name)

    def prepare(self) -> None:
        """Make the folders.

        Raises:
            CannotStart: one cannot be used, or the disk is full.
        """
        try:
            self.data.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.data):
                pass
            if not self.ray_token.exists():
                partial = self.ray_token.with_suffix(".partial")
                with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                    file.write(secrets.token_hex(32))
                partial.replace(self.ray_token)
            for folder in (self.ray.parent, self.ray):
                folder.mkdir(mode=0o700, exist_ok=True)
                if folder.lstat().st_uid != os.getuid():
                    raise CannotStart(f"{folder} belongs to another user")
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise CannotStart(f"the disk that holds {self.data} is full") from None
            raise CannotStart(f"the data directory cannot be used: {error}") from None
        free = shutil.disk_usage(self.data).free
        if free < NEEDED_BYTES:
            raise CannotStart(
                f"the disk is full: {free / 1e9:.2f} GB are free under {self.data}, {NEEDED_BYTES / 1e9:.1f} GB are needed"
            )


def take_lock(path: Path) -> int | None:
    """The lock that one running service holds; None when another process has it. It ends with this process.

    Raises:
        CannotStart: the file cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CannotStart(f"the data directory cannot be used: {error}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def check_port(host: str, port: int) -> None:
    """Raises CannotStart when nothing of ours could listen there."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        # Connections of the last run that linger do not make a port busy.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise CannotStart(f"port {port} is busy; choose another one: make serve PORT={port + 1}") from None
            raise CannotStart(f"cannot listen on {host}:{port}: {error.strerror}") from None


def is_loopback(host: str, environ: MutableMapping[str, str]) -> bool:
    """Whether only this machine reaches the service. Serve's HAProxy ingress binds every interface, whatever host says."""
    return environ.get("RAY_SERVE_ENABLE_HA_PROXY", "0") != "1" and (
        host in {"localhost", "::1"} or host.startswith("127.")
    )


def check_password(host: str, environ: MutableMapping[str, str]) -> None:
    """Put the default admin password in force, which holds on loopback only.

    Raises:
        CannotStart: others could reach the service and no password of one's own is set.
    """
    if is_loopback(host, environ):
        environ.setdefault("PROMPT_SVC_ADMIN_PASSWORD", DEFAULT_PASSWORD)
    elif environ.get("PROMPT_SVC_ADMIN_PASSWORD", DEFAULT_PASSWORD) in {"", DEFAULT_PASSWORD}:
        raise CannotStart(
            f"set PROMPT_SVC_ADMIN_PASSWORD: {host} is not the loopback interface, and the default password holds only there"
        )


def allow_debug_login(host: str, environ: MutableMapping[str, str], arguments: Mapping[str, object]) -> None:
    """Let anybody on this machine log in under any name (docs/open-assistant.md), unless the settings decide otherwise."""
    if is_loopback(host, environ) and "debug_login" not in arguments:
        environ.setdefault("PROMPT_SVC_DEBUG_LOGIN", "true")


def prepare(environ: MutableMapping[str, str], folders: Folders) -> None:
    """What Ray and every process under it inherit. Call before anything imports Ray."""
    # A cluster of the user's is not ours to run in.
    environ.pop("RAY_ADDRESS", None)
    # The embedded Ray has no business on the network, and starts without one. This is Ray's switch for "this node is
    # 127.0.0.1", in spite of its name. Only the replicas' gRPC ports of Serve still listen on every interface, and
    # whoever may talk to those may run code: hence a token as well. A file of our own, since the token that ray.init
    # would otherwise leave in the user's home changes what their next `ray start` does.
    environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    if "RAY_AUTH_MODE" not in environ:
        environ["RAY_AUTH_MODE"] = "token"
        environ["RAY_AUTH_TOKEN_PATH"] = str(folders.ray_token)
        environ.pop("RAY_AUTH_TOKEN", None)
    environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray would run replicas at nice 15: whatever else the machine does would go before the answers.
    environ.setdefault("RAY_worker_niceness", "0")
    environ["PROMPT_SVC_DATA_DIR"] = str(folders.data)
    environ["PROMPT_SVC_MODELS_DIR"] = str(folders.models)
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), environ.get("PYTHONPATH")]))
    # The `python` of jobs is this one.
    environ["PATH"] = os.pathsep.join(filter(None, [str(Path(sys.executable).parent), environ.get("PATH")]))
    environ["PYTHONUNBUFFERED"] = "1"
    # Seconds; Serve replaces its proxy after three failed checks. At Ray's 10 a killed one was gone for 24 s.
    environ.setdefault("RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S", "1")
    environ.setdefault("HF_HUB_OFFLINE", "1")
    environ.setdefault("TOKENIZERS_PARALLELISM", "false")
