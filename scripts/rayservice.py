"""Writes deploy/rayservice.yaml, the KubeRay manifest, from serve_config.yaml and the pools of cluster.yaml, so that the three
cannot differ.

python -m scripts.rayservice          writes the file
python -m scripts.rayservice --check  fails when it is out of date
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
MANIFEST = ROOT / "deploy" / "rayservice.yaml"
#: Secret with what deploy/prompt-svc.env holds, as environment variables (deploy/README.md).
SECRET = "prompt-svc-env"
#: Secrets of the cluster itself: Ray's token, and the password of the Redis that keeps the cluster's own state.
RAY_TOKEN_SECRET, GCS_REDIS_SECRET = "prompt-svc-ray-token", "prompt-svc-gcs-redis"

#: The first release whose ``authOptions`` has ``secretName``. Before it each new cluster of a service got a token of its own
#: (ray#60703), and the API server refuses the field.
OLDEST_KUBERAY = "1.6.0"

_HEAD = f"""\
# Prompt Svc on Kubernetes with KubeRay ({OLDEST_KUBERAY} or newer). Made from serve_config.yaml and cluster.yaml by
# `python -m scripts.rayservice`; a test keeps it up to date. deploy/README.md says which secrets it needs.
"""
#: What serve_config.yaml binds on one machine, and what a pod must: the Service in front is the boundary there.
_LOOPBACK, _EVERYWHERE = "\n  host: 127.0.0.1\n", "\n  host: 0.0.0.0\n"
_GIB = "Gi"
#: Memory of a pod for each of its CPUs, GiB, shared memory included.
_GIB_PER_CPU = 3
_HEAD_SIZE = {"cpu": 2, "memory": 7}


class _Literal(str):
    """Text that the manifest shows as it is, line by line."""


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(
    _Literal, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style="|")
)


def manifest(serve_config: str, cluster: Mapping[str, Any]) -> str:
    """The manifest for a serve_config.yaml (its text) and a cluster.yaml (parsed).

    Raises:
        ValueError: the configuration does not bind loopback, so that it is not known what to change for a pod.
    """
    if serve_config.count(_LOOPBACK) != 1:
        raise ValueError("serve_config.yaml: http_options.host: expected one line `  host: 127.0.0.1`")
    config = serve_config.replace(_LOOPBACK, _EVERYWHERE)
    port = yaml.safe_load(config)["http_options"]["port"]
    pools = dict(cluster["available_node_types"])
    pools.pop(cluster["head_node_type"])
    image = cluster["docker"]["image"]
    document = {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": cluster["cluster_name"]},
        "spec": {
            "serveConfigV2": _Literal(config),
            "rayClusterConfig": {
                "rayVersion": version("ray"),
                # Nodes follow the replicas that find no place.
                "enableInTreeAutoscaling": True,
                "autoscalerOptions": {
                    "upscalingMode": "Default",
                    "idleTimeoutSeconds": 60 * cluster["idle_timeout_minutes"],
                },
                "authOptions": {"mode": "token", "secretName": RAY_TOKEN_SECRET},
                # Without it the end of the head pod is the end of the cluster. A Redis of its own, not the prompts' store.
                "gcsFaultToleranceOptions": {
                    "redisAddress": "gcs-redis:6379",
                    "redisPassword": {"valueFrom": {"secretKeyRef": {"name": GCS_REDIS_SECRET, "key": "password"}}},
                },
                "headGroupSpec": {
                    "rayStartParams": {"num-cpus": "0"},
                    "template": _pod("ray-head", image, _HEAD_SIZE, gpus=0, port=port, is_head=True),
                },
                "workerGroupSpecs": [_group(name, pool, image, port) for name, pool in pools.items()],
            },
        },
    }
    return _HEAD + yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True)


def _group(name: str, pool: Mapping[str, Any], image: str, port: int) -> dict[str, Any]:
    resources = pool["resources"]
    size = {"cpu": resources["CPU"], "memory": _GIB_PER_CPU * resources["CPU"]}
    return {
        "groupName": name,
        "replicas": pool["min_workers"],
        "minReplicas": pool["min_workers"],
        "maxReplicas": pool["max_workers"],
        "rayStartParams": {},
        "template": _pod("ray-worker", image, size, gpus=resources.get("GPU", 0), port=port, is_head=False),
    }


def _pod(name: str, image: str, size: Mapping[str, int], *, gpus: int, port: int, is_head: bool) -> dict[str, Any]:
    limits: dict[str, Any] = {"cpu": str(size["cpu"]), "memory": f"{size['memory']}{_GIB}"}
    if gpus:
        limits["nvidia.com/gpu"] = gpus
    ports = [{"containerPort": port, "name": "serve"}]
    if is_head:
        ports += [{"containerPort": 6379, "name": "gcs-server"}, {"containerPort": 8265, "name": "dashboard"}]
    return {
        "spec": {
            "containers": [
                {
                    "name": name,
                    "image": image,
                    "envFrom": [{"secretRef": {"name": SECRET}}],
                    "ports": ports,
                    "resources": {"limits": limits, "requests": dict(limits)},
                    # vLLM and Ray's object store use shared memory; Kubernetes gives 64 MiB.
                    "volumeMounts": [{"mountPath": "/dev/shm", "name": "shared-memory"}],
                }
            ],
            "volumes": [{"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": f"8{_GIB}"}}],
        }
    }


def current() -> str:
    """The manifest of the repository's own files."""
    cluster = yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))
    return manifest((ROOT / "serve_config.yaml").read_text(encoding="utf-8"), cluster)


def main(arguments: Sequence[str]) -> int:
    if "--check" in arguments:
        if not MANIFEST.is_file() or MANIFEST.read_text(encoding="utf-8") != current():
            print(f"{MANIFEST.relative_to(ROOT)} is out of date: python -m scripts.rayservice", file=sys.stderr)
            return 1
        return 0
    MANIFEST.write_text(current(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
