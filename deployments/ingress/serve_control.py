"""Serve's own word about the deployments of this application."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from ray import serve

from deployments.ingress.model_state import ServeView
from deployments.tasks import Supervisor

logger = logging.getLogger("ray.serve")

#: How long an answer of Serve is gone by, seconds.
FRESH_S = 1.0
#: How long Serve is waited for, seconds.
PATIENCE_S = 2.0


def read_status(app_name: str) -> Mapping[str, ServeView]:
    """Every deployment of the application by name. Blocks: it asks the controller."""
    application = serve.status().applications.get(app_name)
    if application is None:
        return {}
    return {
        name: ServeView(
            status=str(deployment.status.value),
            # Keyed by the states' texts, whatever its annotation says.
            replicas={str(state): count for state, count in deployment.replica_states.items()},
            message=deployment.message,
        )
        for name, deployment in application.deployments.items()
    }


class SharedServeControl:
    """``ServeControl`` whose callers share one question a second, asked in a thread: the controller is one process for the whole
    cluster, and takes its time while it deploys."""

    def __init__(
        self,
        app_name: str,
        supervisor: Supervisor,
        *,
        read: Callable[[str], Mapping[str, ServeView]] = read_status,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app_name = app_name
        self._supervisor = supervisor
        self._read = read
        self._clock = clock
        self._views: Mapping[str, ServeView] = {}
        self._read_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    async def view(self, deployment: str) -> ServeView | None:
        if self._clock() - self._read_at > FRESH_S:
            # One that hangs is not joined by a second one: threads cannot be cancelled.
            if self._reading is None or self._reading.done():
                self._reading = self._supervisor.spawn(self._look(), name="serve status")
            await asyncio.wait([self._reading], timeout=PATIENCE_S)
            if self._clock() - self._read_at > PATIENCE_S + FRESH_S:
                return None
        return self._views.get(deployment)

    async def _look(self) -> None:
        try:
            self._views = await asyncio.to_thread(self._read, self._app_name)
        except Exception as error:  # Whatever keeps Serve from answering: the store's word counts then.
            logger.warning("Serve does not answer for its status: %s", type(error).__name__)
        else:
            self._read_at = self._clock()
