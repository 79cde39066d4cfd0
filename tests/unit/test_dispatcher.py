"""The router gets its grants from the ledger, and by itself while that is away or hangs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError

from deployments import router
from deployments.replica.outcome import Outcome
from deployments.router import Dispatcher
from deployments.tasks import Supervisor
from pipeline.store.queue import Grant
from tests.waiting import until


def grant(ref: str) -> Grant:
    return Grant(ref=ref, fence=1, alone=False)


class Ledger:
    """Answers its calls when the test says so."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[list[Grant]]] = []
        self.grant = SimpleNamespace(remote=self._grant)

    def _grant(self, most: int) -> asyncio.Future[list[Grant]]:
        self.asked.append(asyncio.get_running_loop().create_future())
        return self.asked[-1]


class Queue:
    """The store, asked without the ledger."""

    def __init__(self) -> None:
        self.waiting: list[Grant] = []
        self.asked = 0

    async def grant(self, most: int, claim_s: float) -> list[Grant]:
        self.asked += 1
        granted, self.waiting = self.waiting, []
        return granted


class Handle:
    def __init__(self) -> None:
        self.ran: list[str] = []
        self.run = SimpleNamespace(remote=self._run)

    async def _run(self, ref: str, fence: int, alone: bool) -> str:
        self.ran.append(ref)
        return Outcome.ENDED


class World:
    def __init__(self, supervisor: Supervisor) -> None:
        self.ledger, self.queue, self.handle = Ledger(), Queue(), Handle()
        settings: Any = SimpleNamespace(claim_s=5)
        store: Any = self.queue
        handle: Any = self.handle
        self.dispatcher = Dispatcher(settings, "m", handle, store, supervisor)
        self.running = supervisor.spawn(self.dispatcher.run(), name="dispatcher")

    async def ran(self, *refs: str) -> None:
        await until(lambda: len(self.handle.ran) >= len(refs))
        assert self.handle.ran == list(refs)


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(router, "open_ledger", lambda settings, model_id: world.ledger)
    monkeypatch.setattr(router, "LEDGER_PATIENCE_S", 0.01)
    monkeypatch.setattr(router, "LEDGER_RETRY_S", 0.001)
    supervisor = Supervisor()
    world = World(supervisor)
    yield world
    await supervisor.stop()


async def test_grants_of_the_ledger_are_dispatched(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router, "LEDGER_PATIENCE_S", 1000)
    await until(lambda: world.ledger.asked)
    world.ledger.asked[0].set_result([grant("a"), grant("b")])
    await world.ran("a", "b")
    world.dispatcher.wake()
    await until(lambda: len(world.ledger.asked) == 2)
    assert world.queue.asked == 0


async def test_while_the_ledger_restarts_the_router_grants_by_itself(world: World) -> None:
    world.queue.waiting = [grant("a")]
    await until(lambda: world.ledger.asked)
    world.ledger.asked[0].set_exception(ActorUnavailableError("it restarts", b"0" * 16))
    await world.ran("a")
    await until(lambda: len(world.ledger.asked) == 2)


async def test_while_the_ledger_hangs_the_router_grants_by_itself(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await until(lambda: world.queue.asked >= 2)
    for ref in ("a", "b"):
        world.queue.waiting = [grant(ref)]
        world.dispatcher.wake()
        await until(lambda ref=ref: ref in world.handle.ran)
    assert len(world.ledger.asked) == 1
    assert caplog.text.count("the ledger of m does not answer") == 1


async def test_what_a_ledger_that_hung_grants_when_it_goes_on_is_dispatched(world: World) -> None:
    await until(lambda: world.queue.asked >= 2)
    world.ledger.asked[0].set_result([grant("late")])
    await world.ran("late")
    await until(lambda: len(world.ledger.asked) == 2)


async def test_a_ledger_that_dies_while_it_hangs_is_given_up(world: World) -> None:
    await until(lambda: world.queue.asked >= 2)
    world.ledger.asked[0].set_exception(ActorDiedError())
    with pytest.raises(ActorDiedError):
        await asyncio.wait_for(asyncio.shield(world.running), 10)
    again = asyncio.create_task(world.dispatcher.run())
    await until(lambda: len(world.ledger.asked) == 2)
    again.cancel()
