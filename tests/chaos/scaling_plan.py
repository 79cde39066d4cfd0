"""What ``tests.chaos.scaling`` runs: sizes by engine, and the configurations made of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deployments.settings import deployment_name
from tests.served_config import llm_deployment, replace_models
from tests.service import ROOT

ANSWER_TOKENS = 2000
MODELS = {"scripted": "test/elastic", "vllm": "HuggingFaceTB/SmolLM2-135M-Instruct"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """One engine's sizes. Times in seconds."""

    engine: str
    permits: int
    most: int
    #: Tokens of answers that end before replicas are taken away, and of those that do not.
    short: int
    long: int
    #: Tokens of the answers of a sawtooth.
    tooth: int
    down_after: float
    zero_after: float
    drain: float
    teeth: int
    tooth_every: float
    start_patience: float


PLANS = {
    "scripted": Plan(
        engine="scripted",
        permits=8,
        most=4,
        short=400,
        long=1500,
        tooth=40,
        down_after=5,
        zero_after=6,
        drain=3,
        teeth=10,
        tooth_every=4,
        start_patience=60,
    ),
    "vllm": Plan(
        engine="vllm",
        permits=6,
        most=2,
        short=120,
        long=420,
        tooth=0,
        down_after=4,
        zero_after=8,
        drain=5,
        teeth=0,
        tooth_every=0,
        start_patience=180,
    ),
}


def config(plan: Plan, folder: Path) -> Path:
    """serve_config.yaml with the model scaled from none to the most of the plan."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "serve_config.yaml").read_text(encoding="utf-8"))
    application = document["applications"][0]
    deployment = llm_deployment(application)
    model = application["args"]["models"][0]
    if plan.engine == "scripted":
        model = {"id": MODELS["scripted"], "engine": "scripted", "source": "scripted"}
        model["engine_args"] = {"step_s": 0.02, "answer_tokens": ANSWER_TOKENS}
        deployment["ray_actor_options"] = {"num_cpus": 0.1}
    else:
        deployment["ray_actor_options"]["num_cpus"] = 1
        deployment["ray_actor_options"]["runtime_env"]["env_vars"]["OMP_NUM_THREADS"] = "1"
    replace_models(application, [{**model, "permits": plan.permits, "drain_s": plan.drain}], [deployment])
    del deployment["num_replicas"]
    deployment |= {
        "name": deployment_name(model["id"]),
        "max_ongoing_requests": 2 * plan.permits,
        "autoscaling_config": {
            "min_replicas": 0,
            "initial_replicas": 0,
            "max_replicas": plan.most,
            "target_ongoing_requests": plan.permits,
            "upscale_delay_s": 0,
            "downscale_delay_s": plan.down_after,
            "downscale_to_zero_delay_s": plan.zero_after,
        },
    }
    path = folder / "scaling.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return path


def replacing(path: Path, model: str) -> Path:
    """The same file with another share of a CPU for the model, for which Serve replaces its replicas."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    deployments = {d["name"]: d for d in document["applications"][0]["deployments"]}
    deployments[deployment_name(model)]["ray_actor_options"]["num_cpus"] += 0.05
    target = path.with_name("replacing.yaml")
    target.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return target


def changed(path: Path, model: str) -> Path:
    """The same file with a split of its own and one replica at most."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    deployments = {d["name"]: d for d in document["applications"][0]["deployments"]}
    routing = {"splits": {"hot": {model: 1}}}
    deployments["Ingress"]["user_config"] = deployments["Router"]["user_config"] = routing
    deployments[deployment_name(model)]["autoscaling_config"]["max_replicas"] = 1
    target = path.with_name("changed.yaml")
    target.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return target
