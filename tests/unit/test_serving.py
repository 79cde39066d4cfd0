"""What Serve's routers hear of replicas reaches the queue."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from ray.serve._private.common import DeploymentID
from ray.serve._private.request_router import PowerOfTwoChoicesRequestRouter
from ray.serve.config import RequestRouterConfig

from deployments import serving
from deployments.announcing_router import ANNOUNCING_ROUTER
from deployments.serving import ServingReplicas, announce
from tests.waiting import until


class Handle:
    app_name, deployment_name = "app", "LLM-a"

    def __init__(self) -> None:
        self.initialised = False

    def options(self, **_options: Any) -> Handle:
        self.initialised = True
        return self


class Queue:
    model_id = "a"

    def __init__(self) -> None:
        self.told: list[list[str]] = []
        self.failing: list[Exception] = []

    async def follow(self, running: Iterable[str]) -> int:
        if self.failing:
            raise self.failing.pop()
        self.told.append(list(running))
        return 0


@pytest.fixture(autouse=True)
def _nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_listeners", {})


async def test_every_change_is_passed_on_from_whatever_thread():
    handle, queue = Handle(), Queue()
    replicas = ServingReplicas(handle, queue)  # type: ignore[arg-type]
    assert handle.initialised
    following = asyncio.create_task(replicas.follow())
    for number, running in enumerate((["r1"], ["r1", "r2"], [])):
        thread = threading.Thread(target=announce, args=("app", "LLM-a", running))
        thread.start()
        thread.join()
        await until(lambda n=number: len(queue.told) > n)
    announce("app", "LLM-b", ["r9"])
    announce("other", "LLM-a", ["r9"])
    assert queue.told == [["r1"], ["r1", "r2"], []]
    following.cancel()


async def test_news_that_the_store_did_not_take_are_told_again():
    queue = Queue()
    replicas = ServingReplicas(Handle(), queue)  # type: ignore[arg-type]
    queue.failing.append(ConnectionError())
    announce("app", "LLM-a", ["r1"])
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(replicas.follow(), 10)
    following = asyncio.create_task(replicas.follow())
    await until(lambda: queue.told)
    assert queue.told == [["r1"]]
    following.cancel()


async def test_the_request_router_that_serve_unpickles_announces(monkeypatch: pytest.MonkeyPatch):
    """Serve pickles the class by value; what it announces must reach this process's listeners all the same."""
    config = RequestRouterConfig(request_router_class=ANNOUNCING_ROUTER)
    announcing = config.get_request_router_class()
    assert issubclass(announcing, PowerOfTwoChoicesRequestRouter)
    monkeypatch.setattr(PowerOfTwoChoicesRequestRouter, "update_replicas", lambda self, replicas: None)
    router = announcing.__new__(announcing)
    router._deployment_id = DeploymentID("LLM-a", "app")
    queue = Queue()
    replicas = ServingReplicas(Handle(), queue)  # type: ignore[arg-type]
    following = asyncio.create_task(replicas.follow())
    router.update_replicas([SimpleNamespace(replica_id=SimpleNamespace(unique_id="r1"))])
    await until(lambda: queue.told)
    assert queue.told == [["r1"]]
    following.cancel()
