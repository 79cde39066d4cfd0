"""Supervised background tasks: kept in a set, started in a fresh context, restarted when they fail, awaited on stop."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from pipeline.errors import describe

logger = logging.getLogger("ray.serve")

T = TypeVar("T")

#: First and longest pause before a failed task is started again, seconds.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0


class Supervisor:
    """Owns the tasks of one process that live longer than a request.

    Each starts in a fresh context: a task begun inside a request would inherit Ray's request context and be cancelled with
    it (ray#52476).
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        """Run ``work`` once, to its end."""
        task = asyncio.get_running_loop().create_task(work, name=name, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def keep_running(self, work: Callable[[], Awaitable[None]], *, name: str) -> asyncio.Task[None]:
        """Run ``work`` for ever: when it ends or fails it is logged and started again after a pause."""
        return self.spawn(self._keep_running(work, name), name=name)

    async def _keep_running(self, work: Callable[[], Awaitable[None]], name: str) -> None:
        pause = FIRST_PAUSE_S
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            try:
                await work()
                logger.warning("%s ended, starting it again", name)
            except Exception as error:  # A supervisor's top: whatever it was, the work goes on.
                logger.warning("%s failed, starting it again: %s", name, describe(error))
            pause = FIRST_PAUSE_S if loop.time() - started > 10 * LONGEST_PAUSE_S else min(2 * pause, LONGEST_PAUSE_S)
            await asyncio.sleep(pause)

    async def stop(self) -> None:
        """Cancel every task and wait for its end."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
