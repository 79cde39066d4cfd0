"""A Ray cluster of several nodes on one machine: a head without work, and Ray's own autoscaler with its fake node provider, which
starts a raylet where a cloud would start a machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import yaml

from deployments.local.processes import ProcessId, wait_gone
from deployments.local.valkey import EmbeddedValkey
from tests.service import ROOT, free_port
from tests.waiting import wait_for

BIN = Path(sys.executable).parent
PASSWORD = "a password of one's own"
#: What the provider calls the head; the name of a node is in the environment of its raylet and of all that this starts.
HEAD = "f" * 51 + "00000"
NODE_NAME = "RAY_OVERRIDE_NODE_ID_FOR_TESTING"


class SeveralNodes:
    """Commands and views of a running cluster."""

    def __init__(self, environ: dict[str, str], dashboard: str) -> None:
        self._environ = environ
        self._dashboard = httpx.Client(
            base_url=dashboard, timeout=10, headers={"Authorization": f"Bearer {os.environ['RAY_AUTH_TOKEN']}"}
        )

    def deploy(self, file: Path) -> None:
        """``serve deploy``, and wait until the application runs."""

        def deployed() -> bool:
            command = [BIN / "serve", "deploy", file]
            return (
                subprocess.run(command, env=self._environ, cwd=ROOT, capture_output=True, check=False).returncode == 0
            )

        wait_for(deployed, timeout_s=90, every_s=1, what="the dashboard to take the deployment")
        wait_for(lambda: self._application().get("status") == "RUNNING", timeout_s=180, every_s=0.5, what="running")

    def replicas(self, deployment: str) -> list[dict[str, Any]]:
        """Those of a deployment that run, with ``node_id`` and ``pid``."""
        found = self._application().get("deployments", {}).get(deployment, {}).get("replicas", [])
        return [replica for replica in found if replica["state"] == "RUNNING"]

    def nodes(self, resource: str) -> list[str]:
        """Names of the living nodes that have some of a resource."""
        answer = self._dashboard.get("/nodes", params={"view": "summary"}).json()["data"]["summary"]
        living = [node["raylet"] for node in answer if node["raylet"]["state"] == "ALIVE"]
        return [raylet["nodeId"] for raylet in living if raylet.get("resourcesTotal", {}).get(resource, 0) > 0]

    def kill_node(self, name: str) -> None:
        """kill -9 of the node's raylet, its agents and every worker on it, as when a machine loses its power."""
        kill_all_with(NODE_NAME, name)

    def close(self) -> None:
        self._dashboard.close()

    def _application(self) -> dict[str, Any]:
        try:
            answer = self._dashboard.get("/api/serve/applications/").json()
        except httpx.HTTPError:
            return {}
        return answer.get("applications", {}).get("prompt-svc", {})


@contextlib.contextmanager
def several_nodes(folder: Path, node_types: dict[str, dict[str, Any]]) -> Iterator[SeveralNodes]:
    """A cluster whose nodes the autoscaler starts and stops, with a store of its own.

    Args:
        node_types: ``available_node_types`` of cluster.yaml, beside the head.
    """
    port, dashboard = free_port(), free_port()
    config = folder / "autoscaling.yaml"
    config.write_text(yaml.safe_dump(_autoscaling(node_types, f"127.0.0.1:{port}")), encoding="utf-8")
    # Ray's sockets lie in it, and the name of a socket has at most 107 bytes.
    with EmbeddedValkey(folder / "valkey") as store, tempfile.TemporaryDirectory(prefix="ray-") as sessions:
        environ = {
            **os.environ,
            "REDIS_URL": store.url,
            "PROMPT_SVC_ADMIN_PASSWORD": PASSWORD,
            "PROMPT_SVC_DATA_DIR": str(folder / "data"),
            "PROMPT_SVC_MODELS_DIR": str(ROOT / "data" / "models"),
            "PYTHONPATH": str(ROOT),
            "RAY_DASHBOARD_ADDRESS": f"http://127.0.0.1:{dashboard}",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_FAKE_CLUSTER": "1",
            "RAY_enable_autoscaler_v2": "1",
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_CLOUD_INSTANCE_ID": HEAD,
            NODE_NAME: HEAD,
        }
        (folder / "data").mkdir()
        start = [BIN / "ray", "start", "--head", f"--port={port}", "--node-ip-address=127.0.0.1", "--num-cpus=0"]
        start += ["--include-dashboard=true", f"--dashboard-port={dashboard}", f"--temp-dir={sessions}", "--block"]
        start += [f"--autoscaling-config={config}", "--object-store-memory=80000000"]
        with (folder / "ray.out").open("wb") as output:
            head = subprocess.Popen([*map(str, start)], env=environ, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT)
            cluster = SeveralNodes(environ, environ["RAY_DASHBOARD_ADDRESS"])
            try:
                yield cluster
            finally:
                cluster.close()
                _stop(head, sessions)


def _autoscaling(node_types: dict[str, dict[str, Any]], gcs: str) -> dict[str, Any]:
    head = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
    return {
        "cluster_name": "prompt-svc-test",
        "max_workers": sum(pool["max_workers"] for pool in node_types.values()),
        "idle_timeout_minutes": 0.1,
        "upscaling_speed": 1.0,
        "provider": {
            # Not by its name "fake_multinode": the defaults of that are in a file which the wheel lacks.
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "gcs_address": gcs,
            "launch_multiple": True,
            "head_node_id": HEAD,
        },
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
        "head_node_type": "ray.head.default",
        "available_node_types": {"ray.head.default": head, **node_types},
    }


def _stop(head: subprocess.Popen[bytes], sessions: str) -> None:
    """End the head and whatever the provider started in its session folder; it does not take its nodes along."""
    head.terminate()
    head.wait(60)
    left = [process for process in _processes() if _mentions(process.pid, sessions)]
    for process in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    assert wait_gone(left, 10) == []


def kill_all_with(variable: str, value: str) -> None:
    """kill -9 of every process that was started with this in its environment, as its children are."""
    victims = [process for process in _processes() if _variable(process.pid, variable) == value]
    assert victims, f"no process with {variable}={value}"
    for victim in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim.pid, signal.SIGKILL)
    assert wait_gone(victims, 10) == []


def _processes() -> list[ProcessId]:
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [process for pid in pids if pid != os.getpid() and (process := ProcessId.of(pid)) is not None]


def _variable(pid: int, name: str) -> str | None:
    """A variable of the environment that a process was started with."""
    for entry in _read(pid, "environ").split("\0"):
        key, _, value = entry.partition("=")
        if key == name:
            return value
    return None


def _mentions(pid: int, folder: str) -> bool:
    return folder in _read(pid, "cmdline") or f"={folder}" in _read(pid, "environ")


def _read(pid: int, file: str) -> str:
    try:
        return Path(f"/proc/{pid}/{file}").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
