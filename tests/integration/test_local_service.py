"""The life of `make serve` around a real store, with a Ray that is only played."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis
from ray.serve.schema import ServeDeploySchema

from deployments.local import cluster, disk_watch, launcher
from deployments.local.environment import Folders
from deployments.local.launcher import LocalService
from deployments.local.processes import ProcessId, RunRecord
from deployments.local.valkey import EmbeddedStoreFailed
from pipeline.store.keys import Keys
from tests.waiting import wait_for

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Puts back what a start changes in its process; the store is the embedded one unless the test says otherwise."""
    monkeypatch.setenv("REDIS_URL", "")
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    made = Folders(data=tmp_path / "data", models=tmp_path / "models", ray=tmp_path / "ray" / "x")
    made.data.mkdir()
    made.ray.mkdir(parents=True)
    return made


class PlayedRay:
    """Stands where the embedded Ray does; ``stopped`` counts how often it was asked to stop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stopped = 0
        #: What happens when the application is waited for.
        self.meanwhile: Callable[[], None] = lambda: None
        self.fails_to_stop = False
        monkeypatch.setattr(cluster, "start_ray", lambda *_: "127.0.0.1:1")
        monkeypatch.setattr(cluster, "deploy", lambda *_: None)
        monkeypatch.setattr(cluster, "wait_running", lambda *_, **__: self.meanwhile())
        monkeypatch.setattr(cluster, "stop", self._stop)

    def _stop(self, *_: object) -> None:
        self.stopped += 1
        if self.fails_to_stop:
            raise RuntimeError("no such luck")


@pytest.fixture
def played_ray(monkeypatch: pytest.MonkeyPatch) -> PlayedRay:
    return PlayedRay(monkeypatch)


@pytest.fixture
def service(folders: Folders, played_ray: PlayedRay) -> Iterator[LocalService]:
    made = LocalService(ServeDeploySchema(applications=[]), folders)
    yield made
    played_ray.fails_to_stop = False
    made.stop()


@pytest.fixture
def nobody_looks_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The console is a pipe whose reader has gone, as after `make serve | tee log` and Ctrl-C."""
    reader, writer = os.pipe()
    os.close(reader)
    # Without a buffer, so that there is nothing left to write when it is closed.
    console = os.fdopen(writer, "wb", buffering=0)
    monkeypatch.setattr(sys, "__stdout__", _Console(console.write))


class _Console:
    """A text stream without a buffer."""

    def __init__(self, write: Callable[[bytes], int | None]) -> None:
        self._write = write

    def write(self, text: str) -> int:
        self._write(text.encode())
        return len(text)

    def flush(self) -> None:
        pass


def _store_of(service: LocalService) -> ProcessId:
    record = RunRecord.read(service.folders.record)
    assert record is not None
    assert record.store is not None
    return record.store


@pytest.mark.usefixtures("nobody_looks_on")
def test_a_console_that_is_gone_keeps_nothing_from_starting_and_stopping(
    service: LocalService, played_ray: PlayedRay
) -> None:
    service.start()
    store = _store_of(service)
    service.stop()
    assert played_ray.stopped == 1
    assert not store.is_alive
    assert not service.folders.record.exists()


def test_a_step_of_the_stop_that_fails_is_told_and_skips_no_other(service: LocalService, played_ray: PlayedRay) -> None:
    service.start()
    store = _store_of(service)
    (service.folders.ray / "session_latest").mkdir()
    played_ray.fails_to_stop = True
    with pytest.raises(RuntimeError, match="no such luck"):
        service.stop()
    assert not store.is_alive
    assert list(service.folders.ray.iterdir()) == []
    assert not service.folders.record.exists()


def test_it_watches_the_disk_from_the_start_to_the_end(
    service: LocalService, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(disk_watch, "LOOK_S", 0)
    monkeypatch.setattr(launcher, "LOOK_S", 0.02)
    monkeypatch.setattr(disk_watch, "RESERVE_BYTES", 1 << 62)
    service.start()
    assert "is nearly full" in capfd.readouterr().out
    monkeypatch.setattr(disk_watch, "RESERVE_BYTES", 0)
    monkeypatch.setattr(disk_watch, "ENOUGH_BYTES", 0)

    def stop_once_there_is_room() -> None:
        with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
            wait_for(lambda: not client.exists(Keys("ps").full()))
        os.kill(os.getpid(), signal.SIGTERM)

    with ThreadPoolExecutor(1) as others:
        stops = others.submit(stop_once_there_is_room)
        service.supervise()
        stops.result()
    assert "has room again" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("last_words", "reason"),
    [
        (
            "Short write while writing to the AOF file: (nwritten=12, expected=40)",
            "the disk that holds .*valkey is full",
        ),
        ("Out Of Memory allocating 40 bytes!", "dies again and again, see .*valkey.log"),
    ],
)
def test_a_store_that_is_given_up_says_whether_it_was_the_disk(
    service: LocalService, monkeypatch: pytest.MonkeyPatch, last_words: str, reason: str
) -> None:
    monkeypatch.setattr(launcher, "_SHORT_LIFE_S", 1000)
    service.start()

    def die_again_and_again() -> None:
        store = _store_of(service)
        for life in range(launcher._SHORT_LIVES):
            if life:
                store = wait_for(lambda before=store: (now := _store_of(service)) != before and now)
            with (service.folders.store / "valkey.log").open("a") as log:
                print(last_words, file=log)
            os.kill(store.pid, signal.SIGKILL)

    with ThreadPoolExecutor(1) as others:
        dies = others.submit(die_again_and_again)
        with pytest.raises(EmbeddedStoreFailed, match=reason):
            service.supervise()
        dies.result()


def test_a_run_record_that_cannot_be_written_does_not_end_the_service(
    service: LocalService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.start()
    store = _store_of(service)

    def no_room(*_: object) -> None:
        service.stopping = True
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(RunRecord, "write", no_room)
    os.kill(store.pid, signal.SIGKILL)
    service.supervise()
    assert service.stopping


#: A launcher's life up to where somebody asks it to stop, then what it waits for. Ray is played as above.
_SUPERVISED = """
import sys
from pathlib import Path
from ray.serve.schema import ServeDeploySchema
from deployments.local import cluster
from deployments.local.environment import Folders
from deployments.local.launcher import LocalService, say

cluster.start_ray = cluster.deploy = cluster.wait_running = cluster.stop = lambda *_, **__: ""
data = Path(sys.argv[1])
service = LocalService(ServeDeploySchema(applications=[]), Folders(data=data, models=data, ray=data))
try:
    service.start()
    say("ready")
    service.supervise()
finally:
    service.stop()
"""


@pytest.mark.parametrize("ignored", [signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_it_was_started_to_ignore_does_not_stop_it_and_sigterm_does(
    ignored: signal.Signals, tmp_path: Path
) -> None:
    """`nohup make serve &` and a logout; `make serve &` in a script and Ctrl-C there."""

    def dispositions() -> None:
        # The tests themselves may run in the background.
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN if number == ignored else signal.SIG_DFL)

    with subprocess.Popen(
        [sys.executable, "-c", _SUPERVISED, str(tmp_path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        preexec_fn=dispositions,
    ) as process:
        assert process.stdout is not None
        assert b"ready\n" in iter(process.stdout.readline, b"")
        try:
            ignores = int(_status_of(process.pid, "SigIgn"), 16)
            assert ignores >> (ignored - 1) & 1
            catches = int(_status_of(process.pid, "SigCgt"), 16)
            assert [number for number in SIGNALS if catches >> (number - 1) & 1] == [s for s in SIGNALS if s != ignored]
        finally:
            process.terminate()
        assert process.wait(30) == 0
    assert not (tmp_path / "run.json").exists()


def _status_of(pid: int, field: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{field}:"))
