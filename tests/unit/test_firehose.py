"""The firehose on the wire: all of a user's events, and what it refuses."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from redis.exceptions import ConnectionError

from deployments.ingress import events as module
from deployments.ingress.auth import Gate
from deployments.ingress.bearers import Bearers
from deployments.ingress.events import UserEvents
from deployments.ingress.firehose_svc import FirehoseSvc
from deployments.ingress.tokens import Claims
from deployments.ingress.web import web_app
from pipeline.errors import Unauthorized
from pipeline.store.events import EventId
from tests.unit.events_in_memory import StubbedEvents
from tests.unit.snapshot import check_text


class Tokens:
    def verify(self, encoded: str) -> Claims:
        if encoded != "good":
            raise Unauthorized
        return Claims(
            user_id="usr-1", slug="x", roles=(), app_id="a", device="", token_id="tok-1", expires_at=2_000_000_000
        )


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> StubbedEvents:
    return StubbedEvents.put_in(monkeypatch)


def client(token: str = "good") -> httpx.AsyncClient:
    nothing: Any = None
    app = web_app(FirehoseSvc(UserEvents(nothing, nothing, heartbeat_s=15.0)).routes(Gate(Bearers(Tokens()))))  # type: ignore[arg-type]
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://t", headers=headers)


PATH = "/firehose-svc/events/subscribe"


async def test_the_events_byte_for_byte(stub: StubbedEvents):
    reply = await client().get(PATH)
    assert (reply.status_code, reply.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    check_text("firehose.txt", reply.text)
    assert stub.asked == [("usr-1", None)]


async def test_the_last_event_id_says_where_to_go_on(stub: StubbedEvents):
    await client().get(PATH, headers={"Last-Event-ID": "1767225600000-3"})
    assert stub.asked == [("usr-1", EventId(1767225600000, 3))]


async def test_another_last_event_id_is_refused(stub: StubbedEvents):
    reply = await client().get(PATH, headers={"Last-Event-ID": "3"})
    assert reply.status_code == 400
    assert reply.json()["error"].startswith("Last-Event-ID: got ")
    assert stub.asked == []


@pytest.mark.parametrize("token", ["", "expired"])
async def test_without_a_good_token_there_are_no_events(stub: StubbedEvents, token: str):
    reply = await client(token).get(PATH)
    assert (reply.status_code, reply.json()) == (401, {"error": "Unauthorized"})
    assert stub.asked == []


async def test_a_store_that_does_not_answer_is_a_503(stub: StubbedEvents, monkeypatch: pytest.MonkeyPatch):
    async def begin(*_: Any) -> None:
        raise ConnectionError

    monkeypatch.setattr(module, "begin", begin)
    assert (await client().get(PATH)).status_code == 503
