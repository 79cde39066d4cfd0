"""The life of a local service: refusals, start, supervision of the store, stop."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import redis
from ray.serve._private.client import ServeControllerClient
from ray.serve.schema import ServeDeploySchema

from deployments import config_file
from deployments.local import cluster, embedded_model, ray_files, store_identity
from deployments.local.disk_watch import LOOK_S, DiskWatch
from deployments.local.environment import (
    DEFAULT_PASSWORD,
    ROOT,
    CannotStart,
    Folders,
    allow_debug_login,
    check_password,
    check_port,
    is_loopback,
    take_lock,
)
from deployments.local.processes import ProcessId, RunRecord, stop_all, using_folder
from deployments.local.valkey import AppendFsync, EmbeddedStoreFailed, EmbeddedValkey
from deployments.settings import Settings
from pipeline.errors import ServerError
from pipeline.store.connection import INVALID_URL

#: Port of Ray's dashboard on 127.0.0.1, which takes jobs; without it there is none.
DASHBOARD_VARIABLE = "PROMPT_SVC_RAY_DASHBOARD_PORT"
#: Seconds for the application to come up; a model that must be fetched first takes its time.
START_TIMEOUT_S = 900
#: A store that dies this many times in a row within so many seconds of its start cannot run here and is given up. One that lives
#: longer is started again however often somebody kills it.
_SHORT_LIVES, _SHORT_LIFE_S = 5, 5.0


def main(arguments: Sequence[str], folders: Folders) -> int:
    began = time.monotonic()
    path = Path(arguments[0]) if arguments else ROOT / "serve_config.yaml"
    try:
        config = config_file.read(path)
        host, port = config.http_options.host, config.http_options.port
        check_password(host, os.environ)
        allow_debug_login(host, os.environ, _arguments(config))
        folders.prepare()
        lock = take_lock(folders.lock)
        if lock is None:
            other = RunRecord.read(folders.record)
            detail = f" (pid {other.launcher.pid}, {other.url})" if other else ""
            raise CannotStart(f"it runs already with the data in {folders.data}{detail}")
        clear_up(folders)
        check_port(host, port)
        service = LocalService(config, folders)
        try:
            service.start()
            if not service.stopping:
                announce(service.url, folders, time.monotonic() - began, host)
                service.supervise()
        finally:
            service.stop()
    except ServerError as error:
        for line in str(error).splitlines():
            print(f"prompt-svc: {line}", file=sys.stderr)
        return 1
    return 0


def clear_up(folders: Folders) -> None:
    """End what a launcher that was killed has left running. The caller holds the lock: none of it is in use."""
    record = RunRecord.read(folders.record)
    left = using_folder(folders.ray, cluster.ray_programs())
    if record and record.store and record.store.is_alive:
        left.append(record.store)
    if left:
        say(f"clearing up {len(left)} processes that an earlier run left behind")
        stop_all(left, grace_s=2)
    put_away_ray_files(folders)
    folders.record.unlink(missing_ok=True)


def put_away_ray_files(folders: Folders) -> None:
    try:
        ray_files.put_away(folders.ray, folders.logs)
    except OSError as error:
        say(f"the logs of the last run stay in {folders.ray}: {error}")


def announce(url: str, folders: Folders, seconds: float, host: str) -> None:
    own = os.environ["PROMPT_SVC_ADMIN_PASSWORD"] != DEFAULT_PASSWORD
    reachable = "" if is_loopback(host, os.environ) else ", reachable from the network"
    json_type = "-H 'Content-Type: application/json'"
    login = f"""{{"appHost": "unnamed", "slug": "1backend", "password": "{"..." if own else DEFAULT_PASSWORD}"}}"""
    say(f"""
Prompt Svc runs at {url} (up after {seconds:.1f} s{reachable})
  log in  slug 1backend, password {"the one in PROMPT_SVC_ADMIN_PASSWORD" if own else DEFAULT_PASSWORD}
  try     TOKEN=$(curl -s {url}/user-svc/login {json_type} -d '{login}' | grep -o 'eyJ[^"]*' | head -n 1)
          curl -s {url}/prompt-svc/prompt -H "Authorization: Bearer $TOKEN" {json_type} \\
           -d '{{"prompt": "What is the capital of France?", "parameters": {{"textToText": {{"temperature": 0}}}}, "sync": true}}'
  logs    {ray_files.session_logs(folders.ray)} (when it has stopped: {folders.logs})
  data    {folders.data}
  stop    Ctrl-C
ready {url}""")


def say(line: str) -> None:
    """For whoever looks on; that nobody does any more (a closed terminal, a ``| tee`` that is gone) changes nothing."""
    with contextlib.suppress(OSError):
        print(line, file=sys.__stdout__, flush=True)


class LocalService:
    """The store, the Ray and the application of one launcher. Start it from the main thread: its children end with it."""

    def __init__(self, config: ServeDeploySchema, folders: Folders) -> None:
        self.config = config
        self.folders = folders
        self.url = f"http://{_in_url(config.http_options.host)}:{config.http_options.port}"
        #: Whether somebody asked to stop.
        self.stopping = False
        self._store: EmbeddedValkey | None = None
        self._disk: DiskWatch | None = None
        self._client: ServeControllerClient | None = None
        self._ray_started = False
        #: When the store was last started, and how many times in a row it died soon after.
        self._store_started = time.monotonic()
        self._short_lives = 0
        self._wake_reader, self._wake_writer = os.pipe()
        #: Signals that mean stop. What whoever started us had ignored stays ignored: SIGHUP under nohup, SIGINT in the
        #: background of a script. Looked at here, before Ray puts handlers of its own there.
        self._stop_signals = [
            number
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
            if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN
        ]
        launcher = ProcessId.of(os.getpid())
        assert launcher is not None
        self._record = RunRecord(launcher=launcher, url=self.url, ray_folder=str(folders.ray))

    def start(self) -> None:
        """Start everything and wait until the application runs, or somebody asks to stop.

        Raises:
            CannotStart: something did not come up.
            EmbeddedStoreFailed: the store did not.
        """
        self._listen_for_signals()
        self._write_record()
        fsync = _fsync()
        dashboard_port = _dashboard_port()
        if os.environ.get("REDIS_URL"):
            _check_external_store(os.environ["REDIS_URL"])
        else:
            self._store = EmbeddedValkey(self.folders.store, appendfsync=fsync, say=say)
            # Its replay goes on while Ray starts.
            self._store.launch()
            os.environ["REDIS_URL"] = self._store.url
        self._write_record()
        if any(model.get("source") == embedded_model.SOURCE for model in _models(self.config)):
            embedded_model.ensure(self.folders.models)
        if self._stop_requested():
            return
        say("starting Ray")
        # Ray prints the tracebacks of failed tasks there, Serve's own among them; its logs have them as well. What
        # matters of it is said by us, in one line.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 until the process ends
        self._ray_started = True
        address = cluster.start_ray(self.folders.ray, dashboard_port)
        self._listen_for_signals()  # ray.init has put its own handler there
        self._record = replace(self._record, ray_address=address)
        if self._store:
            self._store.wait_ready()
            with self._store.client() as client:
                store_identity.check(client, _namespace(self.config), self.folders.data)
            self._disk = DiskWatch(self._store, _namespace(self.config), say)
            self._disk.look()
        self._write_record()
        if self._stop_requested():
            return
        say("starting the application")
        self._client = cluster.deploy(self.config)
        cluster.wait_running(
            self.config, timeout_s=START_TIMEOUT_S, progress=lambda line: say(f"  {line}"), pause=self._pause
        )
        if self._store and not self._stop_requested():
            with self._store.client() as client:
                store_identity.remember(client, _namespace(self.config), self.folders.data)

    def supervise(self) -> None:
        """Keep the store alive, and an eye on its disk, until somebody asks to stop."""
        while self._pause(LOOK_S):
            pass

    def stop(self) -> None:
        """Stop whatever was started, the store last: what runs until then is still recorded. Takes up to ~15 s.

        A step that fails keeps none of the others from being taken; its error is raised at the end.
        """
        with contextlib.ExitStack() as steps:  # the last one in is the first one taken
            steps.callback(self.folders.record.unlink, missing_ok=True)
            if self._store:
                steps.callback(self._store.stop)
            if self._ray_started:
                steps.callback(put_away_ray_files, self.folders)
                steps.callback(cluster.stop, self._client, self.folders.ray)
                say("stopping (takes up to 15 s)")

    def _pause(self, seconds: float) -> bool:
        """Wait for a time, or until somebody asks to stop; False means stop.

        A store that has died is started again meanwhile.
        """
        watched: list[int] = [self._wake_reader]
        store = os.pidfd_open(self._store.pid) if self._store and self._store.pid else None
        try:
            if store is not None:
                watched.append(store)
            ready, _, _ = select.select(watched, [], [], seconds)
        finally:
            if store is not None:
                os.close(store)
        if not self.stopping and self._store and (store is None or store in ready):
            self._revive(self._store)
        if self._disk and not self._stop_requested():
            self._disk.look()
        return not self.stopping

    def _revive(self, store: EmbeddedValkey) -> None:
        lived_s = time.monotonic() - self._store_started
        self._short_lives = self._short_lives + 1 if lived_s < _SHORT_LIFE_S else 0
        full = store.lacked_room()
        if self._short_lives >= _SHORT_LIVES:
            why = f": the disk that holds {store.folder} is full" if full else ""
            raise EmbeddedStoreFailed(f"the embedded store dies again and again{why}, see {store.log_file}")
        say(f"the store has died{', the disk is full' if full else ''}; starting it again")
        store.start()
        self._store_started = time.monotonic()
        try:
            self._write_record()
        except OSError as error:
            # No reason to stop: the store ends with this process, recorded or not.
            say(f"{self.folders.record} could not be written: {error}")

    def _write_record(self) -> None:
        store = ProcessId.of(self._store.pid) if self._store and self._store.pid else None
        self._record = replace(self._record, store=store, redis_url=os.environ.get("REDIS_URL", ""))
        self._record.write(self.folders.record)

    def _stop_requested(self) -> bool:
        # A method, not the attribute: a signal may have changed it since it was last looked at.
        return self.stopping

    def _listen_for_signals(self) -> None:
        for number in self._stop_signals:
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if not self.stopping:
            self.stopping = True
            os.write(self._wake_writer, b"x")


def _arguments(config: ServeDeploySchema) -> dict[str, Any]:
    """The ``args`` of our application, {} if the file deploys another one."""
    return next((app.args for app in config.applications if app.import_path == config_file.IMPORT_PATH), {})


def _models(config: ServeDeploySchema) -> list[dict[str, object]]:
    return list(_arguments(config).get("models", []))


def _namespace(config: ServeDeploySchema) -> str:
    configured = os.environ.get("PROMPT_SVC_REDIS_NAMESPACE") or _arguments(config).get("redis_namespace")
    return str(configured or Settings.model_fields["redis_namespace"].default)


def _fsync() -> AppendFsync:
    match os.environ.get("PROMPT_SVC_STORE_FSYNC", "always"):
        case "always":
            return "always"
        case "everysec":
            return "everysec"
        case other:
            raise CannotStart(f"PROMPT_SVC_STORE_FSYNC: got {other!r}, allowed is always or everysec")


def _dashboard_port() -> int | None:
    """Raises CannotStart."""
    given = os.environ.get(DASHBOARD_VARIABLE, "")
    if not given:
        return None
    if not (given.isascii() and given.isdecimal()) or not 1024 <= int(given) <= 65535:
        raise CannotStart(f"{DASHBOARD_VARIABLE}: got {given!r}, allowed is a port from 1024 to 65535")
    check_port("127.0.0.1", int(given))
    return int(given)


def _check_external_store(url: str) -> None:
    """Raises CannotStart when no store answers at REDIS_URL; what it must be like is the application's to check."""
    try:
        with redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5) as client:
            client.ping()
    except ValueError:
        # Its message quotes a piece of the password, where that has a / or # as it is.
        raise CannotStart(INVALID_URL) from None
    except redis.RedisError as error:
        # The message of the client has host and port, never the password.
        raise CannotStart(f"the store of REDIS_URL does not answer: {error}") from None


def _in_url(host: str) -> str:
    if host in {"0.0.0.0", "::"}:
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
