"""The life of `make serve` around a real store, with a Ray that is only played."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ray.serve.schema import ServeDeploySchema

from deployments.local import cluster
from deployments.local.environment import Folders
from deployments.local.launcher import LocalService
from deployments.local.processes import ProcessId, RunRecord

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
    ) as launcher:
        assert launcher.stdout is not None
        assert b"ready\n" in iter(launcher.stdout.readline, b"")
        try:
            ignores = int(_status_of(launcher.pid, "SigIgn"), 16)
            assert ignores >> (ignored - 1) & 1
            catches = int(_status_of(launcher.pid, "SigCgt"), 16)
            assert [number for number in SIGNALS if catches >> (number - 1) & 1] == [s for s in SIGNALS if s != ignored]
        finally:
            launcher.terminate()
        assert launcher.wait(30) == 0
    assert not (tmp_path / "run.json").exists()


def _status_of(pid: int, field: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{field}:"))
