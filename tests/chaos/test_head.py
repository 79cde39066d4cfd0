"""The head of a cluster loses its power. With a Redis for Ray's own state (deploy/README.md) the workers go on without it, and
the cluster is whole again when it is back. ``CHAOS=full`` runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import yaml
from ray.util import get_node_ip_address

from deployments.local.valkey import EmbeddedValkey
from deployments.settings import deployment_name
from tests.served_config import replace_models
from tests.service import ROOT, free_port
from tests.several_nodes import BIN, PASSWORD, SeveralNodes, kill_all_with
from tests.waiting import wait_for

MODEL = "test/slow"
#: Seconds that an answer takes: longer than the head is away.
ANSWER_TOKENS, STEP_S = 240, 0.25
#: Which node a process belongs to.
MARK = "TEST_NODE"

pytestmark = pytest.mark.skipif(os.environ.get("CHAOS") != "full", reason="CHAOS=full runs it")


def write_config(file: Path, port: int) -> None:
    document = yaml.safe_load((ROOT / "serve_config.yaml").read_text(encoding="utf-8"))
    document["http_options"]["port"] = port
    app = document["applications"][0]
    options = {"step_s": STEP_S, "answer_tokens": ANSWER_TOKENS}
    replace_models(
        app,
        [{"id": MODEL, "engine": "scripted", "source": "scripted", "engine_args": options}],
        [{"name": deployment_name(MODEL), "ray_actor_options": {"num_cpus": 0.1}}],
    )
    file.write_text(yaml.safe_dump(document), encoding="utf-8")


class Nodes:
    """A head and one worker, each started as an operator does."""

    def __init__(
        self, folder: Path, sessions: str, environ: dict[str, str], gcs: EmbeddedValkey, dashboard: int
    ) -> None:
        self._folder = folder
        self._sessions = sessions
        self._environ = environ
        self._gcs = gcs
        self._dashboard = dashboard
        self._port = free_port()
        self.processes: list[subprocess.Popen[bytes]] = []

    def start_head(self) -> None:
        """Start it, or one in its place at the same address (as behind a name that moves along), with nothing of the old one."""
        # Ray looks at the processes of the machine and takes the worker for a head that is still there.
        (Path(self._sessions) / "ray_current_cluster").unlink(missing_ok=True)
        password = urlsplit(self._gcs.url).password
        command = ["start", "--head", f"--port={self._port}", "--num-cpus=0", f"--redis-password={password}", "--block"]
        command += ["--include-dashboard=true", f"--dashboard-port={self._dashboard}", f"--temp-dir={self._sessions}"]
        state = {"RAY_REDIS_ADDRESS": f"127.0.0.1:{self._gcs.port}", "RAY_external_storage_namespace": "test"}
        self._start("head", command, state)

    def start_worker(self) -> None:
        command = ["start", f"--address={get_node_ip_address()}:{self._port}", "--num-cpus=4"]
        self._start("worker", [*command, "--min-worker-port=0", "--max-worker-port=0", "--block"], {})

    def _start(self, name: str, command: list[str], extra: dict[str, str]) -> None:
        environ = {**self._environ, **extra, MARK: name}
        with (self._folder / f"{name}.out").open("ab") as output:
            self.processes.append(
                subprocess.Popen([BIN / "ray", *command], env=environ, stdout=output, stderr=output, cwd=ROOT)
            )


@contextmanager
def head_and_worker(folder: Path) -> Iterator[tuple[Nodes, SeveralNodes]]:
    with ExitStack() as stack:
        store = stack.enter_context(EmbeddedValkey(folder / "store"))
        gcs = stack.enter_context(EmbeddedValkey(folder / "gcs"))
        # Ray's sockets lie in it, and the name of a socket has at most 107 bytes.
        sessions = stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True))
        dashboard = free_port()
        environ = {
            **os.environ,
            "REDIS_URL": store.url,
            "PROMPT_SVC_ADMIN_PASSWORD": PASSWORD,
            "PROMPT_SVC_DATA_DIR": str(folder / "data"),
            "PYTHONPATH": str(ROOT),
            "RAY_DASHBOARD_ADDRESS": f"http://127.0.0.1:{dashboard}",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        (folder / "data").mkdir()
        nodes = Nodes(folder, sessions, environ, gcs, dashboard)
        cluster = SeveralNodes(environ, environ["RAY_DASHBOARD_ADDRESS"])
        nodes.start_head()
        nodes.start_worker()
        try:
            yield nodes, cluster
        finally:
            cluster.close()
            for process in nodes.processes:
                process.send_signal(signal.SIGTERM)
            for process in nodes.processes:
                process.wait(60)


class Listener:
    """Counts the events of a thread for as long as its connection lasts."""

    def __init__(self, client: httpx.Client, thread: str) -> None:
        self.events = 0
        self.broke = False
        self._client = client
        self._thread = threading.Thread(target=self._listen, args=(thread,), daemon=True)
        self._thread.start()

    def _listen(self, thread: str) -> None:
        try:
            with self._client.stream("GET", f"/prompt-svc/prompts/{thread}/responses/subscribe") as response:
                for line in response.iter_lines():
                    self.events += line.startswith("data:")
        except httpx.HTTPError:
            self.broke = True


@pytest.mark.timeout(600)
def test_the_cluster_works_on_without_its_head_and_is_whole_again_with_it(tmp_path: Path):
    port = free_port()
    write_config(tmp_path / "serve_config.yaml", port)
    with head_and_worker(tmp_path) as (nodes, cluster), httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        cluster.deploy(tmp_path / "serve_config.yaml")
        body = {"appHost": "unnamed", "slug": "1backend", "password": PASSWORD}
        token = client.post("/user-svc/login", json=body, timeout=30).json()["token"]["token"]
        client.headers["Authorization"] = f"Bearer {token}"

        def submit(prompt_id: str) -> bool:
            try:
                answer = client.post("/prompt-svc/prompt", json={"id": prompt_id, "prompt": "hello"}, timeout=10)
            except httpx.HTTPError:
                return False  # The head's own proxy went with it; the next connection finds the worker's.
            return answer.status_code == 200

        def status(prompt_id: str) -> str:
            try:
                return client.get(f"/prompt-svc/prompt/{prompt_id}", timeout=10).json()["prompt"]["status"]
            except httpx.HTTPError:
                return ""

        assert submit("before")
        wait_for(lambda: status("before") == "running", timeout_s=60, what="the first prompt to run")
        kill_all_with(MARK, "head")

        wait_for(lambda: submit("without"), timeout_s=30, every_s=0.5, what="accept without a head")
        wait_for(lambda: status("without") == "running", timeout_s=30, every_s=0.5, what="run without a head")
        listener = Listener(client, "before")
        wait_for(lambda: listener.events > 20, timeout_s=30, every_s=0.1, what="a stream without a head")

        nodes.start_head()
        wait_for(lambda: cluster.replicas("Router"), timeout_s=120, every_s=1, what="Serve to be there again")
        victim = cluster.replicas("Router")[0]
        os.kill(victim["pid"], signal.SIGKILL)
        wait_for(
            lambda: (
                len(running := cluster.replicas("Router")) == 2 and victim["pid"] not in {r["pid"] for r in running}
            ),
            timeout_s=120,
            every_s=1,
            what="a new router in place of the dead one",
        )
        for prompt_id in ("before", "without"):
            wait_for(
                lambda prompt_id=prompt_id: status(prompt_id) == "completed", timeout_s=180, every_s=1, what=prompt_id
            )
        assert not listener.broke
