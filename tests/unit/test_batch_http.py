"""A batch's way to the service by HTTP: which responses end a line, and which are asked for again. The service is a function."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from clients import patience
from clients.batch.services import HttpService
from clients.errors import NotFound, Unavailable

Reply = Callable[[], httpx.Response]


def no_route() -> httpx.Response:
    """What Ray Serve's proxy says to every path while it has no route to the application."""
    return httpx.Response(404, text="Path '/prompt-svc/prompt' not found. Ping http://x/-/routes for available routes.")


def missing() -> httpx.Response:
    return httpx.Response(404, json={"error": "Not Found"})


def answered() -> httpx.Response:
    prompt = {"id": "job:1", "threadId": "t", "status": "completed", "modelId": "m", "prompt": "hi"}
    return httpx.Response(200, json={"prompt": prompt, "responseMessage": {"text": "HI"}})


class Service:
    """Gives these replies, the last one for ever."""

    def __init__(self, *replies: Reply) -> None:
        self._replies = list(replies)
        self.asked: list[Any] = []

    def client(self, *, patience_s: float) -> HttpService:
        transport = httpx.MockTransport(self._reply)
        return HttpService("http://test", "token", connections=1, patience_s=patience_s, transport=transport)

    def _reply(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(json.loads(request.content or b"null"))
        return (self._replies.pop(0) if len(self._replies) > 1 else self._replies[0])()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_FIRST_S", 0.0)


async def test_a_line_outlives_the_moment_in_which_nothing_is_served():
    service = Service(no_route, no_route, answered)
    assert (await service.client(patience_s=60).run({"id": "job:1", "prompt": "hi"})).text == "HI"
    assert [asked["id"] for asked in service.asked] == ["job:1"] * 3


async def test_a_service_that_stays_away_is_away_and_refuses_nothing():
    with pytest.raises(Unavailable, match="nothing is served at this address: Path"):
        await Service(no_route).client(patience_s=0).run({"id": "job:1", "prompt": "hi"})


async def test_what_the_service_does_not_know_is_not_asked_for_again():
    service = Service(missing)
    with pytest.raises(NotFound, match="Not Found"):
        await service.client(patience_s=60).run({"id": "job:1", "prompt": "hi"})
    assert len(service.asked) == 1


async def test_the_service_is_there_if_it_says_itself_that_it_has_no_such_prompt():
    await Service(missing).client(patience_s=0).check()


@pytest.mark.parametrize(
    "reply", [no_route, lambda: httpx.Response(404, text="<html>"), lambda: httpx.Response(404, json={"detail": "x"})]
)
async def test_something_else_that_knows_no_such_path_is_not_the_service(reply: Reply):
    with pytest.raises(Unavailable):
        await Service(reply).client(patience_s=0).check()
