"""How a replica leaves: it takes nothing more, finishes what it can, and hands the rest back before Serve's grace is over.

Serve tells the code in a replica nothing until its requests have ended or it is killed; the routers see that it is no longer
among the replicas that run, and have it told through the store (``deployments.serving``, ``follow.lua``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from deployments.replica.attempts import AttemptRunner
from deployments.tasks import Supervisor
from pipeline.store.attempts import Standing

logger = logging.getLogger("ray.serve")

#: Between two tries to hand back what is still running when the time is over, seconds: an attempt may be just beginning.
AGAIN_S = 0.5


class Drain:
    """Follows what the replica is to the store. Call ``heard`` from the event loop of the runner."""

    def __init__(
        self, runner: AttemptRunner, *, drain_s: float, supervisor: Supervisor, beat: Callable[[], None]
    ) -> None:
        """
        Args:
            drain_s: seconds from when it is told to leave until it hands back what it still runs.
            beat: makes a heartbeat: whenever something ends, the others may have its permit.
        """
        self._runner = runner
        self._drain_s = drain_s
        self._supervisor = supervisor
        self._beat = beat
        self._leaving: asyncio.Task[None] | None = None

    @property
    def is_leaving(self) -> bool:
        return self._leaving is not None

    def heard(self, standing: Standing) -> None:
        """The store says that the replica leaves, or that it stays after all. That it does not know the replica means neither:
        it has not heard of it for a while."""
        if standing is Standing.LEAVING and self._leaving is None:
            logger.info("this replica leaves with %d attempts under way", self._runner.permits_used)
            self._runner.permits.close()
            self._leaving = self._supervisor.spawn(self._leave(), name="drain")
        elif standing is Standing.SERVING and self._leaving is not None:
            logger.info("this replica stays after all")
            self._leaving.cancel()
            self._leaving = None
            self._runner.permits.open()
        # The store counts on what the replica offered; that has changed.
        self._beat()

    async def _leave(self) -> None:
        loop = asyncio.get_running_loop()
        await self._empty_until(loop.time() + self._drain_s)
        while self._runner.permits_used:
            logger.info("%d attempts are handed back", self._runner.permits_used)
            await self._runner.hand_back_all()
            await self._empty_until(loop.time() + AGAIN_S)

    async def _empty_until(self, deadline: float) -> None:
        """Wait until nothing runs any more, or for the time."""
        released = self._runner.permits.released
        try:
            async with asyncio.timeout_at(deadline):
                while self._runner.permits_used:
                    released.clear()
                    await released.wait()
                    self._beat()
        except TimeoutError:
            return
