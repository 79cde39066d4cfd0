"""The configurations the chaos suite runs: serve_config.yaml as it is, but for the model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.served_config import llm_deployment, replace_models
from tests.service import ROOT

SCRIPTED_MODEL = "test/scripted"
VLLM_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
#: Attempts of one scripted replica. Two of them hold what a run submits, so that a wait for the first token after a fault
#: is not a wait in the queue; one does not, so that losing one makes prompts wait.
PERMITS = 16
#: Prompts that hold this fail their first attempt in each process.
WOBBLY = "wobbly"


def scripted_config(folder: Path, *, step_s: float = 0.03, answer_tokens: int | None = None, root: Path = ROOT) -> Path:
    """Two replicas of the scripted engine; graph, leases, health checks and graces as in production."""
    document = _production(root)
    application = document["applications"][0]
    model = {
        "id": SCRIPTED_MODEL,
        "engine": "scripted",
        "source": "scripted",
        "permits": PERMITS,
        "engine_args": {
            "step_s": step_s,
            "faulty_prompts": WOBBLY,
            "fail_first": 1,
            "fail_after_tokens": 3,
            **({"answer_tokens": answer_tokens} if answer_tokens else {}),
        },
    }
    replace_models(application, [model], [llm_deployment(application)])
    return _write(
        document,
        folder / "scripted.yaml",
        {
            "name": "LLM-scripted",
            "num_replicas": 2,
            "max_ongoing_requests": 2 * PERMITS,
            "ray_actor_options": {"num_cpus": 0.1},
        },
    )


def vllm_config(folder: Path, *, engine_core: bool, root: Path = ROOT) -> Path:
    """The embedded model as in production.

    Args:
        engine_core: run vLLM's engine in a child process, to have one to kill.
    """
    document = _production(root)
    deployment = llm_deployment(document["applications"][0])
    name = "vllm-core.yaml" if engine_core else "vllm.yaml"
    environ = deployment["ray_actor_options"]["runtime_env"]["env_vars"]
    environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "1" if engine_core else "0"
    return _write(document, folder / name, {})


def _production(root: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((root / "serve_config.yaml").read_text(encoding="utf-8"))
    return document


def _write(document: dict[str, Any], path: Path, changes: Mapping[str, Any]) -> Path:
    deployments = document["applications"][0]["deployments"]
    (index,) = (i for i, d in enumerate(deployments) if d["name"].startswith("LLM-"))
    deployments[index] = {**deployments[index], **changes}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path
