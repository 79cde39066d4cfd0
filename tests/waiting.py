"""Bounded waiting for something another process does; tests never sleep for a guessed time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(condition: Callable[[], T], *, timeout_s: float = 10, every_s: float = 0.02, what: str = "") -> T:
    """The first true value of the condition.

    Raises:
        TimeoutError: it stayed false; says what was waited for.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what or condition} did not come true within {timeout_s} s")
        time.sleep(every_s)


async def until(condition: Callable[[], object], *, timeout_s: float = 10) -> None:
    """Let the other tasks of this loop run until the condition is true. Raises TimeoutError.

    One that is true for a while only may be missed: a task can take several steps in one turn of the loop, so wait for what stays
    true (``>= 2`` calls, not ``== 2``).
    """
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 (any condition, not only of ours)
            await asyncio.sleep(0)


async def until_true(
    condition: Callable[[], Awaitable[T]], *, timeout_s: float = 10, every_s: float = 0.02, what: str = ""
) -> T:
    """``wait_for`` for a condition that is awaited."""
    deadline = time.monotonic() + timeout_s
    while not (value := await condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what or condition} did not come true within {timeout_s} s")
        await asyncio.sleep(every_s)
    return value
