"""The application on several Ray nodes: replicas spread, a node that dies takes no prompt along, and nodes with a GPU come and go
with the work there is for them. ``CHAOS=full`` runs it: it takes some minutes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from deployments.settings import deployment_name
from tests.served_config import replace_models
from tests.service import ROOT, free_port
from tests.several_nodes import PASSWORD, SeveralNodes, several_nodes
from tests.waiting import wait_for

pytestmark = pytest.mark.skipif(os.environ.get("CHAOS") != "full", reason="CHAOS=full runs it")

#: Runs on nodes with a GPU, none of which is there until there is work. It answers within some seconds.
MODEL = "test/gpu"
ANSWER_TOKENS, STEP_S = 60, 0.1
NODE_TYPES = {
    "cpu": {"resources": {"CPU": 2}, "node_config": {}, "min_workers": 2, "max_workers": 3},
    "gpu": {"resources": {"CPU": 1, "GPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 1},
}


def config(port: int) -> dict[str, Any]:
    """serve_config.yaml with a scripted model for GPU nodes in place of the embedded one."""
    document = yaml.safe_load((ROOT / "serve_config.yaml").read_text(encoding="utf-8"))
    document["http_options"]["port"] = port
    document["proxy_location"] = "EveryNode"
    options = {"step_s": STEP_S, "answer_tokens": ANSWER_TOKENS}
    deployment = {
        "name": deployment_name(MODEL),
        "ray_actor_options": {"num_cpus": 0, "num_gpus": 1},
        "autoscaling_config": {
            "min_replicas": 0,
            "initial_replicas": 0,
            "max_replicas": 1,
            "upscale_delay_s": 0,
            "downscale_delay_s": 2,
            "look_back_period_s": 1,
            "metrics_interval_s": 0.5,
        },
    }
    model = {"id": MODEL, "engine": "scripted", "source": "scripted", "engine_args": options}
    replace_models(document["applications"][0], [model], [deployment])
    return document


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[SeveralNodes]:
    folder = tmp_path_factory.mktemp("cluster")
    with several_nodes(folder, NODE_TYPES) as running:
        file = folder / "serve_config.yaml"
        file.write_text(yaml.safe_dump(config(port)), encoding="utf-8")
        running.deploy(file)
        yield running


@pytest.fixture
def client(cluster: SeveralNodes, port: int) -> Iterator[httpx.Client]:
    transport = httpx.HTTPTransport(retries=3)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, transport=transport) as client:
        body = {"appHost": "unnamed", "slug": "1backend", "password": PASSWORD}
        token = client.post("/user-svc/login", json=body).json()["token"]["token"]
        client.headers["Authorization"] = f"Bearer {token}"
        yield client


def submit(client: httpx.Client, prompt_id: str) -> None:
    answer = client.post("/prompt-svc/prompt", json={"id": prompt_id, "prompt": "hello"})
    assert answer.status_code == 200, answer.text


def status(client: httpx.Client, prompt_id: str) -> str:
    try:
        return client.get(f"/prompt-svc/prompt/{prompt_id}").json()["prompt"]["status"]
    except (httpx.HTTPError, KeyError):
        return ""  # The proxy or the ingress behind it went with the node; others come.


@pytest.mark.timeout(400)
def test_replicas_spread_over_nodes_and_none_is_on_the_head(cluster: SeveralNodes):
    workers = set(cluster.nodes("CPU"))
    assert len(workers) == 2
    for deployment in ("Ingress", "Router"):
        assert {replica["node_id"] for replica in cluster.replicas(deployment)} == workers


@pytest.mark.timeout(400)
def test_a_gpu_node_comes_when_the_queue_needs_one_and_goes_when_not(cluster: SeveralNodes, client: httpx.Client):
    assert cluster.nodes("GPU") == []
    submit(client, "first")
    wait_for(lambda: cluster.nodes("GPU"), timeout_s=60, every_s=0.5, what="a GPU node")
    wait_for(lambda: status(client, "first") == "completed", timeout_s=90, every_s=0.5, what="the prompt to complete")
    wait_for(lambda: not cluster.nodes("GPU"), timeout_s=90, every_s=0.5, what="the GPU node to go")


@pytest.mark.timeout(400)
def test_nodes_that_die_take_no_prompt_along(cluster: SeveralNodes, client: httpx.Client):
    for number in range(5):
        submit(client, f"survivor-{number}")
    wait_for(lambda: status(client, "survivor-0") == "running", timeout_s=90, every_s=0.2, what="the first to run")
    # The dashboard is some seconds behind.
    (gpu,) = wait_for(lambda: cluster.nodes("GPU"), timeout_s=30, every_s=0.5, what="the GPU node in the dashboard")
    cluster.kill_node(gpu)
    cluster.kill_node(cluster.replicas("Ingress")[0]["node_id"])
    for number in range(5):
        wait_for(
            lambda number=number: status(client, f"survivor-{number}") == "completed",
            timeout_s=120,
            every_s=0.5,
            what=f"prompt {number} to complete",
        )
    wait_for(lambda: len(cluster.replicas("Ingress")) == 2, timeout_s=90, every_s=0.5, what="two ingress replicas")
