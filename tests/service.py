"""The real service as a child process: what `make serve` runs, on a free port with a data directory of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from deployments.local.processes import ProcessId, RunRecord, wait_gone
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parent.parent
_READY = re.compile(r"^ready (\S+)$", re.MULTILINE)


class Service:
    """One launcher process. ``start`` may be called again after ``stop`` or ``kill``: same data, same port."""

    def __init__(
        self, data_dir: Path, *, config: Path | None = None, environ: Mapping[str, str] | None = None, port: int = 0
    ) -> None:
        self.data_dir = data_dir
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.output_file = data_dir / "launcher.out"
        self._config = config
        self._environ = dict(environ or {})
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, timeout_s: float = 300) -> None:
        """Start it and wait until it says that it is ready.

        Raises:
            RuntimeError: it ended instead; holds what it printed.
            TimeoutError: it took too long.
        """
        self.launch()
        wait_for(self._is_ready, timeout_s=timeout_s, every_s=0.1, what="the ready line of the launcher")

    def launch(self) -> None:
        """Start it without waiting."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        environ = {
            **os.environ,
            "PROMPT_SVC_MODELS_DIR": str(ROOT / "data" / "models"),
            **self._environ,
            "PROMPT_SVC_DATA_DIR": str(self.data_dir),
            "PORT": str(self.port),
        }
        command = [sys.executable, "-m", "deployments.local", *([str(self._config)] if self._config else [])]
        with self.output_file.open("wb") as output:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=environ, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def output(self) -> str:
        """What the launcher has printed since it was last started."""
        return self.output_file.read_text(encoding="utf-8", errors="replace")

    @property
    def record(self) -> RunRecord:
        """Its ``run.json``: the store's process and URL, the address of its Ray."""
        record = RunRecord.read(self.data_dir / "run.json")
        assert record is not None, "it does not run"
        return record

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def processes(self) -> list[ProcessId]:
        """Every process of the service except the launcher: the store, Ray's daemons, the replicas and their children."""
        from deployments.local import cluster
        from deployments.local.processes import using_folder

        record = self.record
        found = using_folder(Path(record.ray_folder), cluster.ray_programs())
        return [*found, record.store] if record.store else found

    def stop(self, timeout_s: float = 30) -> int:
        """Ctrl-C; returns the exit status. Fine to call when it has ended already."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        return self._process.wait(timeout_s)

    def wait(self, timeout_s: float) -> int:
        """Wait until it ends by itself; returns the exit status."""
        assert self._process is not None
        return self._process.wait(timeout_s)

    def kill_launcher(self) -> None:
        """kill -9 of the launcher alone. The kernel ends what it started itself; workers may live on for a while."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def kill_everything(self) -> None:
        """kill -9 of the launcher, the store and every other process of it, and wait until they are gone."""
        assert self._process is not None
        victims = self.processes()
        self._process.kill()
        self._process.wait()
        for victim in victims:
            if victim.is_alive:
                os.kill(victim.pid, signal.SIGKILL)
        left = wait_gone(victims, 10)
        assert not left, f"kill -9 did not end {left}"

    def _is_ready(self) -> bool:
        assert self._process is not None
        if _READY.search(self.output):
            return True
        if self._process.poll() is not None:
            raise RuntimeError(f"the launcher ended with {self._process.returncode}:\n{self.output}")
        return False


@contextmanager
def running_service(
    data_dir: Path, *, config: Path | None = None, environ: Mapping[str, str] | None = None
) -> Iterator[Service]:
    """A service that is ready; it is stopped at the end."""
    service = Service(data_dir, config=config, environ=environ)
    try:
        service.start()
        yield service
    finally:
        service.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
