"""deploy/rayservice.yaml against serve_config.yaml, cluster.yaml and Ray's own schema of what Serve deploys."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.config_file import read
from scripts import rayservice

ROOT = rayservice.ROOT


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    return yaml.safe_load(rayservice.MANIFEST.read_text(encoding="utf-8"))["spec"]


def test_the_manifest_is_up_to_date():
    assert rayservice.MANIFEST.read_text(encoding="utf-8") == rayservice.current(), (
        "python -m scripts.rayservice writes it"
    )


def test_it_deploys_the_same_application_bound_to_the_pods_address(spec: dict[str, Any]):
    deployed = yaml.safe_load(spec["serveConfigV2"])
    own = yaml.safe_load((ROOT / "serve_config.yaml").read_text(encoding="utf-8"))
    assert deployed["http_options"].pop("host") == "0.0.0.0"
    assert own["http_options"].pop("host") == "127.0.0.1"
    assert deployed == own


def test_ray_and_the_service_accept_what_it_deploys(spec: dict[str, Any], tmp_path: Path):
    path = tmp_path / "serve_config.yaml"
    path.write_text(spec["serveConfigV2"], encoding="utf-8")
    assert read(path, {"REDIS_URL": "redis://store.invalid"}).http_options.host == "0.0.0.0"


def test_its_pools_are_those_of_the_cluster(spec: dict[str, Any]):
    types = yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))["available_node_types"]
    for group in spec["rayClusterConfig"]["workerGroupSpecs"]:
        pool = types[group["groupName"]]
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert (group["minReplicas"], group["maxReplicas"]) == (pool["min_workers"], pool["max_workers"])
        assert int(limits["cpu"]) == pool["resources"]["CPU"]
        assert limits.get("nvidia.com/gpu", 0) == pool["resources"].get("GPU", 0)
    assert {group["groupName"] for group in spec["rayClusterConfig"]["workerGroupSpecs"]} == set(types) - {"head"}


def test_the_head_takes_no_work_and_survives_its_pod(spec: dict[str, Any]):
    cluster = spec["rayClusterConfig"]
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    assert cluster["gcsFaultToleranceOptions"]["redisAddress"]
    assert cluster["authOptions"] == {"mode": "token", "secretName": rayservice.RAY_TOKEN_SECRET}


def test_no_secret_is_in_it_and_every_one_is_explained():
    text = rayservice.MANIFEST.read_text(encoding="utf-8")
    guide = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")
    for name in (rayservice.SECRET, rayservice.RAY_TOKEN_SECRET, rayservice.GCS_REDIS_SECRET):
        assert name in text
        assert f"create secret generic {name}" in guide


def test_manifest_and_guide_ask_for_the_kuberay_that_knows_its_fields(spec: dict[str, Any]):
    assert "secretName" in spec["rayClusterConfig"]["authOptions"]
    for text in (rayservice.MANIFEST, ROOT / "deploy" / "README.md"):
        assert re.findall(r"KubeRay \(?(\d[\d.]*\d) or newer", text.read_text(encoding="utf-8")) == ["1.6.0"]


def test_the_image_has_what_kuberays_probes_run():
    """A worker of a RayService is ready when ``bash -c "wget … | grep success"`` says so, in its own pod."""
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    (packages,) = re.findall(r"apt-get install -y --no-install-recommends (.*?) \\\n", dockerfile)
    assert "wget" in packages.split()


def test_every_pod_names_the_port_that_serve_listens_on(spec: dict[str, Any]):
    port = yaml.safe_load(spec["serveConfigV2"])["http_options"]["port"]
    cluster = spec["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        ports = {item["name"]: item["containerPort"] for item in group["template"]["spec"]["containers"][0]["ports"]}
        assert ports["serve"] == port


def test_a_configuration_that_binds_something_else_is_refused():
    with pytest.raises(ValueError, match="expected one line"):
        rayservice.manifest("http_options:\n  host: 10.0.0.1\n", {})


def test_a_stale_manifest_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    stale = tmp_path / "rayservice.yaml"
    stale.write_text("old", encoding="utf-8")
    monkeypatch.setattr(rayservice, "MANIFEST", stale)
    monkeypatch.setattr(rayservice, "ROOT", tmp_path)
    for name in ("serve_config.yaml", "cluster.yaml"):
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    assert rayservice.main(["--check"]) == 1
    assert "out of date" in capsys.readouterr().err
    assert rayservice.main([]) == 0
    assert rayservice.main(["--check"]) == 0
