"""Serve's autoscaling policy for the application: replicas follow the durable queues. ``serve_config.yaml`` names it.

Serve's own policy sees what is in its handles, and prompts that wait are not there: they wait in the store until a replica
has a permit free. The router reports what the queues hold (``Router.record_autoscaling_stats``); the decision is
``pipeline.scaling.wish``. Bounds and delays are those of each deployment's ``autoscaling_config``, applied by
Serve to the result.

This module is imported by Serve's controller: keep it small and free of state. What it raises would stop every application's
updates, so it raises nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from ray.serve.autoscaling_policy import replica_queue_length_autoscaling_policy
from ray.serve.config import AutoscalingContext

from pipeline.scaling import Reading, wish

logger = logging.getLogger("ray.serve")

#: Deployments that run no model.
INGRESS, ROUTER = "Ingress", "Router"
_METRIC = "demand:"


def demand_metric(deployment: str) -> str:
    """Name under which the router reports the demand for a model's deployment."""
    return _METRIC + deployment


class FollowTheQueue:
    """Called by Serve ten times a second with the state of every deployment that has an ``autoscaling_config``."""

    def __init__(self) -> None:
        self._troubled = False

    def __call__(
        self, contexts: Mapping[Any, AutoscalingContext]
    ) -> tuple[dict[Any, float], dict[Any, dict[str, Any]] | None]:
        """Wished replicas by deployment; one that is not in the answer is left as it is."""
        try:
            wishes = self._wishes(contexts)
        except Exception as error:
            if not self._troubled:
                logger.error("autoscaling stands still: %s: %s", type(error).__name__, error)
            self._troubled = True
            return {}, None
        self._troubled = False
        return wishes, None

    def _wishes(self, contexts: Mapping[Any, AutoscalingContext]) -> dict[Any, float]:
        router = next((context for context in contexts.values() if context.deployment_name == ROUTER), None)
        reported = (router.raw_metrics or {}) if router is not None else {}
        wishes: dict[Any, float] = {}
        for deployment_id, context in contexts.items():
            if context.deployment_name == ROUTER or context.config is None:
                continue
            if context.deployment_name == INGRESS:
                # Its requests are in Serve's handles.
                wishes[deployment_id], _ = replica_queue_length_autoscaling_policy(context)
                continue
            series = reported.get(demand_metric(context.deployment_name), {}).values()
            found = wish(
                (Reading(at=point.timestamp, demand=point.value) for points in series for point in points),
                now=context.current_time or time.time(),
                per_replica=context.config.get_target_ongoing_requests(),
            )
            if found is not None:
                wishes[deployment_id] = found
        return wishes
