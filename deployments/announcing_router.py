"""Serve's default way of routing requests to replicas, which also says aloud between which replicas it chooses.

Serve pickles this class together with the globals of its module, so that it has its own copy of them in a process that routes:
what is to be shared there stands in another module.
"""

from __future__ import annotations

from ray.serve._private.request_router import (
    PowerOfTwoChoicesRequestRouter,
)  # Serve's default; only the others are public.
from ray.serve.request_router import RunningReplica

from deployments.serving import announce


class AnnouncingRouter(PowerOfTwoChoicesRequestRouter):
    """For ``request_router_config`` of every deployment that runs a model."""

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Called by Serve in the event loop of the handle, with all that run, whenever that changes."""
        super().update_replicas(replicas)
        running = [replica.replica_id.unique_id for replica in replicas]
        announce(self._deployment_id.app_name, self._deployment_id.name, running)


#: Its name for ``request_router_config``.
ANNOUNCING_ROUTER = f"{AnnouncingRouter.__module__}:{AnnouncingRouter.__name__}"
