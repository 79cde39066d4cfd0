"""Which replicas of a model Serve runs, heard where its requests are routed, and passed on to the store.

A replica that Serve stops is first taken out of the set its requests are routed to; nobody tells the code that runs in it until
it is too late to hand anything back. The set reaches every handle, through the public hook of Serve's request routers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from ray.serve.handle import DeploymentHandle

from pipeline.store.queue import ModelQueue

logger = logging.getLogger("ray.serve")

Listener = Callable[[Sequence[str]], None]

#: (application, deployment) -> who wants to know, in this process.
_listeners: dict[tuple[str, str], Listener] = {}


def announce(app: str, deployment: str, running: Sequence[str]) -> None:
    """These replicas of a deployment run. Called from whatever thread routes its requests (``deployments.announcing_router``)."""
    listener = _listeners.get((app, deployment))
    if listener is not None:
        listener(running)


class ServingReplicas:
    """Passes the replicas of one model on to its queue."""

    def __init__(self, handle: DeploymentHandle, queue: ModelQueue) -> None:
        self._queue = queue
        self._loop = asyncio.get_running_loop()
        self._running: Sequence[str] = ()
        self._news = asyncio.Event()
        _listeners[handle.app_name, handle.deployment_name] = self._hear
        # What makes a handle listen to Serve; otherwise its first request would.
        handle.options(method_name="run")

    def _hear(self, running: Sequence[str]) -> None:
        self._loop.call_soon_threadsafe(self._set, running)

    def _set(self, running: Sequence[str]) -> None:
        self._running = running
        self._news.set()

    async def follow(self) -> None:
        """Tell the queue of every change, for ever. Only changes: what was heard long ago may have been overtaken by what another
        router has heard since."""
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                leaving = await self._queue.follow(self._running)
            except BaseException:
                self._news.set()
                raise
            if leaving:
                logger.info("%s: %d replicas run, %d leave", self._queue.model_id, len(self._running), leaving)
