"""``serve deploy serve_config.yaml`` on a running Ray cluster with REDIS_URL set: the same app, without our launcher."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from deployments.local.cluster import ray_programs
from deployments.local.processes import stop_all, using_folder
from deployments.local.valkey import EmbeddedValkey
from tests.service import ROOT, free_port
from tests.waiting import wait_for

RAY = Path(sys.executable).with_name("ray")
SERVE = Path(sys.executable).with_name("serve")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A Ray head of its own, started as an operator does; the environment of its commands."""
    dashboard = free_port()
    # Ray's sockets lie in it, and the name of a socket has at most 107 bytes.
    with EmbeddedValkey(tmp_path / "valkey") as store, tempfile.TemporaryDirectory(prefix="ray-") as sessions:
        environ = {
            **os.environ,
            "REDIS_URL": store.url,
            "PROMPT_SVC_ADMIN_PASSWORD": "a password of one's own",
            "PROMPT_SVC_DATA_DIR": str(tmp_path / "data"),
            "PROMPT_SVC_MODELS_DIR": str(ROOT / "data" / "models"),
            "PYTHONPATH": str(ROOT),
            "RAY_DASHBOARD_ADDRESS": f"http://127.0.0.1:{dashboard}",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        (tmp_path / "data").mkdir()
        start = [RAY, "start", "--head", f"--port={free_port()}", "--num-cpus=8", "--include-dashboard=true"]
        start += [f"--dashboard-port={dashboard}", f"--temp-dir={sessions}", "--block"]
        with (tmp_path / "ray.out").open("wb") as output:
            head = subprocess.Popen([*map(str, start)], env=environ, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT)
            try:
                yield environ
            finally:
                # By itself the head takes half a minute to say good-bye to everybody.
                stop_all(using_folder(Path(sessions), ray_programs()), grace_s=2)
                head.wait(60)


@pytest.mark.timeout(400)
def test_serve_deploy_deploys_the_repositorys_file(cluster: dict[str, str], tmp_path: Path) -> None:
    port = free_port()
    # Only the port differs from the file in the repository: two services cannot share one on a machine.
    text = (ROOT / "serve_config.yaml").read_text(encoding="utf-8")
    file = tmp_path / "serve_config.yaml"
    file.write_text(text.replace("port: 11337", f"port: {port}"), encoding="utf-8")
    changed = yaml.safe_load(file.read_text(encoding="utf-8"))
    changed["http_options"]["port"] = 11337
    assert changed == yaml.safe_load(text)

    def deploy() -> bool:
        done = subprocess.run(
            [SERVE, "deploy", file], env=cluster, cwd=ROOT, capture_output=True, text=True, check=False
        )
        return done.returncode == 0

    wait_for(deploy, timeout_s=90, every_s=1, what="the dashboard to take the deployment")

    def status() -> str:
        done = subprocess.run([SERVE, "status"], env=cluster, cwd=ROOT, capture_output=True, text=True, check=False)
        found = re.search(r"prompt-svc:\s+status: (\w+)", done.stdout)
        return found.group(1) if found else ""

    wait_for(lambda: status() in {"RUNNING", "DEPLOY_FAILED"}, timeout_s=180, every_s=1, what="the application to run")
    assert status() == "RUNNING"
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        login = {"appHost": "unnamed", "slug": "1backend", "password": "a password of one's own"}
        token = client.post("/user-svc/login", json=login).json()["token"]["token"]
        answer = client.post(
            "/prompt-svc/prompt",
            json={
                "prompt": "What is the capital of France?",
                "sync": True,
                "parameters": {"textToText": {"temperature": 0}},
            },
            headers={"Authorization": f"Bearer {token}"},
        ).json()
    assert "Paris" in answer["responseMessage"]["text"]
