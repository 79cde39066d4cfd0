"""Moves prompts that wait for a model to its fallback, when the model has failed or too many wait for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from deployments.ingress.model_state import ServeControl, State, model_state
from deployments.routing import CurrentRouting, FallbackRule
from pipeline.store.queue import ModelQueue

logger = logging.getLogger("ray.serve")

#: Seconds between two looks.
LOOK_S = 1.0
#: Most prompts moved by one script: every accept waits for it.
BATCH = 100


class Fallbacks:
    """Looks after every model that has a fallback. Any number of routers may: each move is one script."""

    def __init__(
        self,
        routing: CurrentRouting,
        queues: Mapping[str, ModelQueue],
        deployments: Mapping[str, str],
        serve: ServeControl,
    ) -> None:
        """
        Args:
            queues: by model id.
            deployments: names by model id.
        """
        self._routing = routing
        self._deployments = deployments
        self._queues = queues
        self._serve = serve

    async def run(self) -> None:
        while True:
            for model_id, rule in self._routing.now.fallbacks.items():
                await self.look(model_id, rule)
            await asyncio.sleep(LOOK_S)

    async def look(self, model_id: str, rule: FallbackRule) -> int:
        """Move what is to be moved now; returns how many prompts that were."""
        queue = self._queues[model_id]
        depth = await queue.depth()
        if not depth.waiting:
            return 0
        if rule.over_waiting is not None and depth.waiting > rule.over_waiting:
            return await self._move(queue, rule, stay=rule.over_waiting, why="saturated")
        view = await self._serve.view(self._deployments[model_id])
        if model_state(registered=depth.replicas, view=view).state is State.FAILED:
            return await self._move(queue, rule, stay=0, why="failed")
        return 0

    async def _move(self, queue: ModelQueue, rule: FallbackRule, *, stay: int, why: str) -> int:
        moved = last = await queue.move(stay=stay, most=BATCH, why=f"fallback from {queue.model_id}: {why}")
        while last == BATCH:
            last = await queue.move(stay=stay, most=BATCH, why=f"fallback from {queue.model_id}: {why}")
            moved += last
        if moved:
            logger.warning("%s is %s: %d prompts that waited for it run on %s", queue.model_id, why, moved, rule.model)
        return moved
