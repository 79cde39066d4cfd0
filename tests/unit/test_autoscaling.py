"""The policy that serve_config.yaml names, under what Serve itself wraps around it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve._private.autoscaling_state import _resolve_policy_callable
from ray.serve._private.common import DeploymentID, ReplicaID, TimeStampedValue
from ray.serve.autoscaling_policy import _apply_app_level_autoscaling_config
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy

from deployments.autoscaling import INGRESS, ROUTER, FollowTheQueue, demand_metric
from deployments.config_file import POLICY
from pipeline.scaling import HOLD_S, STALE_S

NOW = 1000.0
LLM, OTHER = DeploymentID("LLM-a", "app"), DeploymentID("LLM-b", "app")
ROUTERS, DOOR = DeploymentID(ROUTER, "app"), DeploymentID(INGRESS, "app")
CONFIG = AutoscalingConfig(
    min_replicas=0,
    initial_replicas=0,
    max_replicas=8,
    target_ongoing_requests=10,
    upscale_delay_s=0,
    downscale_delay_s=60,
    downscale_to_zero_delay_s=120,
)


def context(deployment: DeploymentID, *, now: float = NOW, **changes: Any) -> AutoscalingContext:
    fields: dict[str, Any] = {
        "deployment_id": deployment,
        "deployment_name": deployment.name,
        "app_name": "app",
        "current_num_replicas": 0,
        "target_num_replicas": 0,
        "running_replicas": [],
        "total_num_requests": 0,
        "total_queued_requests": 0,
        "aggregated_metrics": {},
        "raw_metrics": {},
        "capacity_adjusted_min_replicas": 0,
        "capacity_adjusted_max_replicas": 8,
        "policy_state": {},
        "last_scale_up_time": None,
        "last_scale_down_time": None,
        "current_time": now,
        "config": CONFIG,
    }
    return AutoscalingContext(**{**fields, **changes})


def router(*reports: Mapping[str, float], at: float = NOW) -> AutoscalingContext:
    """What router replicas have reported, each a demand of 1000 a while before."""
    metrics: dict[str, dict[ReplicaID, list[TimeStampedValue]]] = {}
    for number, report in enumerate(reports):
        for deployment, demand in report.items():
            points = [TimeStampedValue(at - HOLD_S - 1, 1000.0), TimeStampedValue(at - 0.01 * number, demand)]
            metrics.setdefault(demand_metric(deployment), {})[ReplicaID(f"r{number}", ROUTERS)] = points
    return context(ROUTERS, raw_metrics=metrics, current_num_replicas=2, target_num_replicas=2)


def decided(*contexts: AutoscalingContext, policy: Any = None) -> dict[DeploymentID, int]:
    """What Serve makes of the policy's wishes."""
    wrapped = _apply_app_level_autoscaling_config(policy or FollowTheQueue())
    decisions, _ = wrapped({one.deployment_id: one for one in contexts})
    return dict(decisions)


def test_serve_makes_an_instance_of_what_serve_config_names():
    config = yaml.safe_load((Path(__file__).resolve().parents[2] / "serve_config.yaml").read_text(encoding="utf-8"))
    named = config["applications"][0]["autoscaling_policy"]
    assert named["policy_function"] == POLICY
    policy = _resolve_policy_callable(AutoscalingPolicy(**named))
    assert decided(router({"LLM-a": 25}), context(LLM), policy=policy) == {LLM: 3}


def test_each_model_follows_its_own_queue():
    reported = router({"LLM-a": 25, "LLM-b": 71.5})
    assert decided(reported, context(LLM), context(OTHER)) == {LLM: 3, OTHER: 8}


def test_routers_read_the_same_queue_so_their_words_are_not_added_up():
    assert decided(router({"LLM-a": 25}, {"LLM-a": 35}), context(LLM)) == {LLM: 4}


def test_an_empty_queue_asks_for_no_replica():
    assert decided(router({"LLM-a": 0}), context(LLM)) == {LLM: 0}


@pytest.mark.parametrize(
    "reported",
    [router(), router({"LLM-b": 25}), router({"LLM-a": 25}, at=NOW - STALE_S - 1), None],
    ids=["nothing", "another model", "long ago", "no router"],
)
def test_without_news_a_model_stays_as_it_is(reported: AutoscalingContext | None):
    model = context(LLM, current_num_replicas=4, target_num_replicas=4)
    assert LLM not in decided(*([reported] if reported else []), model)


def test_delays_are_those_of_the_config():
    model = {"current_num_replicas": 4, "target_num_replicas": 4}
    policy = _apply_app_level_autoscaling_config(FollowTheQueue())
    state: dict[str, Any] = {}
    assert policy({ROUTERS: router({"LLM-a": 71}), LLM: context(LLM, **model)})[0] == {LLM: 8}
    decisions, states = policy({ROUTERS: router({"LLM-a": 5}), LLM: context(LLM, policy_state=state, **model)})
    # It has just begun to ask for less.
    assert decisions == {LLM: 4}
    assert states[LLM]


def test_the_ingress_follows_its_requests_as_without_the_policy():
    door = context(DOOR, current_num_replicas=1, target_num_replicas=1, total_num_requests=35)
    assert decided(router({"LLM-a": 0}), door, context(LLM)) == {DOOR: 4, LLM: 0}


def test_the_router_itself_is_left_alone():
    assert ROUTERS not in decided(router({"LLM-a": 25}))


def test_what_goes_wrong_stops_nothing():
    contexts = {ROUTERS: router({"LLM-a": 25}), LLM: context(LLM, config="another Serve's")}
    assert FollowTheQueue()(contexts) == ({}, None)
