"""cluster.yaml against Ray's own schema, and against what the service needs of a cluster."""

import json
import re
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
ENV_FILE = ROOT / "deploy" / "prompt-svc.env.example"


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    ray = find_spec("ray")
    assert ray is not None
    assert ray.origin is not None
    return json.loads((Path(ray.origin).parent / "autoscaler" / "ray-schema.json").read_text(encoding="utf-8"))


def test_rays_own_schema_accepts_it(cluster: dict[str, Any], schema: dict[str, Any]):
    jsonschema.validate(cluster, schema)


def test_the_schema_notices_a_typo(cluster: dict[str, Any], schema: dict[str, Any]):
    with pytest.raises(jsonschema.ValidationError, match="max_wokers"):
        jsonschema.validate({**cluster, "max_wokers": 3}, schema)


def test_the_head_takes_no_work(cluster: dict[str, Any]):
    head = cluster["available_node_types"][cluster["head_node_type"]]
    assert head["resources"]["CPU"] == 0
    assert "GPU" not in head["resources"]


def test_the_pools_hold_what_serve_config_asks_for(cluster: dict[str, Any]):
    config = yaml.safe_load((ROOT / "serve_config.yaml").read_text(encoding="utf-8"))
    pools = {name: pool for name, pool in cluster["available_node_types"].items() if name != cluster["head_node_type"]}
    replicas = {d["name"]: d for d in config["applications"][0]["deployments"]}
    front = sum(
        most * replicas[name]["ray_actor_options"]["num_cpus"]
        for name, most in (
            ("Ingress", replicas["Ingress"]["num_replicas"]),
            ("Router", replicas["Router"]["autoscaling_config"]["max_replicas"]),
        )
    )
    assert front <= pools["cpu"]["min_workers"] * pools["cpu"]["resources"]["CPU"]
    assert pools["gpu"]["resources"]["GPU"] == 1
    assert sum(pool["max_workers"] for pool in pools.values()) <= cluster["max_workers"]


@pytest.mark.parametrize("commands", ["head_start_ray_commands", "worker_start_ray_commands"])
def test_every_node_starts_with_the_secrets_and_a_token(cluster: dict[str, Any], commands: str):
    (start,) = [command for command in cluster[commands] if "ray start" in command]
    assert start.index(". ~/prompt-svc.env") < start.index("RAY_AUTH_MODE=token") < start.index("ray start")
    assert "~/prompt-svc.env" in cluster["file_mounts"]
    subprocess.run(["bash", "-n", "-c", start], check=True)


def run_head_start(cluster: dict[str, Any], env_file: str, tmp_path: Path) -> str:
    """What the head's start command would have called, and what Ray would have seen of the state's Redis."""
    (start,) = [command for command in cluster["head_start_ray_commands"] if "ray start" in command]
    (tmp_path / "prompt-svc.env").write_text(env_file, encoding="utf-8")
    fake = 'ray() { echo "$@"; echo "address=${RAY_REDIS_ADDRESS-none}"; }; ulimit() { :; };'
    done = subprocess.run(
        ["bash", "-c", fake + start], check=True, capture_output=True, text=True, env={"HOME": str(tmp_path)}
    )
    return done.stdout


def test_the_heads_state_is_kept_in_a_redis_if_one_is_named(cluster: dict[str, Any], tmp_path: Path):
    example = ENV_FILE.read_text(encoding="utf-8")
    without = run_head_start(cluster, example, tmp_path)
    assert "address=none" in without
    assert "--redis-password" not in without
    named = example + "GCS_REDIS_ADDRESS=gcs-redis:6379\nGCS_REDIS_PASSWORD='a b'\n"
    kept = run_head_start(cluster, named, tmp_path)
    assert "address=gcs-redis:6379" in kept
    assert "--redis-password=a b" in kept


def on_premise() -> dict[str, Any]:
    """cluster.yaml with the block at its end put in place, as its comment says."""
    text = (ROOT / "cluster.yaml").read_text(encoding="utf-8")
    block = text[text.index("# provider:\n#   type: local") :]
    local = yaml.safe_load("\n".join(line.removeprefix("#").removeprefix(" ") for line in block.splitlines()))
    replaced = {"provider", "auth", "max_workers", "head_node_type", "available_node_types"}
    return {**{name: value for name, value in yaml.safe_load(text).items() if name not in replaced}, **local}


def test_the_block_for_own_machines_is_one_that_ray_takes(schema: dict[str, Any]):
    from ray.autoscaler._private.local.config import LOCAL_CLUSTER_NODE_TYPE, prepare_local

    cluster = on_premise()
    jsonschema.validate(cluster, schema)
    prepared, _ = prepare_local(cluster)
    pool = prepared["available_node_types"][LOCAL_CLUSTER_NODE_TYPE]
    assert pool["min_workers"] == pool["max_workers"] == len(cluster["provider"]["worker_ips"])


def test_no_port_of_ray_is_that_of_redis(cluster: dict[str, Any]):
    text = " ".join(cluster["head_start_ray_commands"] + cluster["worker_start_ray_commands"])
    assert re.findall(r"(?:--port=|IP:)(\d+)", text) == ["6380", "6380"]
    assert "--dashboard-host=127.0.0.1" in text


def test_the_example_of_the_secrets_names_settings_that_exist():
    from deployments.settings import Settings

    printed = subprocess.run(
        ["bash", "-c", f"set -a; . '{ENV_FILE}'; env -0"], check=True, capture_output=True, text=True, env={}
    ).stdout
    names = {line.partition("=")[0] for line in printed.split("\0")}
    prefix = "PROMPT_SVC_"
    ours = {name.removeprefix(prefix).lower() for name in names if name.startswith(prefix)}
    assert ours == {"admin_password", "jwt_private_key"}
    # Not known before the first start, and so left out until then.
    later = {name.lower() for name in re.findall(rf"^# {prefix}(\w+)=", ENV_FILE.read_text(encoding="utf-8"), re.M)}
    assert later == {"store_id"}
    assert ours | later <= set(Settings.model_fields)
    assert {"REDIS_URL", "RAY_AUTH_TOKEN", "GCS_REDIS_ADDRESS", "GCS_REDIS_PASSWORD"} <= names


def test_the_image_installs_the_gpu_extra():
    text = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    assert '".[gpu]"' in text
    for source in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE):
        for name in source.split():
            assert (ROOT / name).exists(), name
