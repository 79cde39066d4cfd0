"""The firehose: which events a subscription shows, and how."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from deployments.ingress import firehose_svc as module
from deployments.ingress import hub as hub_module
from deployments.ingress.auth import Gate
from deployments.ingress.firehose_svc import MISSED, FirehoseSvc, Start, begin, follow
from deployments.ingress.hub import Hub
from deployments.ingress.tokens import Claims
from deployments.ingress.web import web_app
from deployments.tasks import Supervisor
from pipeline.errors import InvalidField, Unauthorized
from pipeline.store.events import BEGINNING, Event, EventId, EventLog
from tests.unit.attempts_in_memory import public_methods
from tests.unit.events_in_memory import MemoryEvents
from tests.unit.logs_in_memory import USER, MemoryLogs
from tests.unit.snapshot import check_text
from tests.waiting import until

START = Start(position=BEGINNING, has_missed=False)


@pytest.fixture
def logs() -> MemoryLogs:
    return MemoryLogs()


@pytest.fixture
def log(logs: MemoryLogs) -> MemoryEvents:
    return MemoryEvents(logs)


@pytest.fixture
async def hub(logs: MemoryLogs, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    monkeypatch.setattr(hub_module, "LOOK_ANYWAY_S", 60)
    supervisor = Supervisor()
    yield Hub(logs, logs.keys, supervisor)  # type: ignore[arg-type]
    await supervisor.stop()


async def take(log: Any, hub: Hub, count: int, position: EventId | None = None) -> list[Event]:
    """The next events of a subscription."""
    found: list[Event] = []
    async with asyncio.timeout(10), aclosing(follow(log, hub, USER, await begin(log, USER, position))) as events:
        async for event in events:
            found.append(event)
            if len(found) == count:
                break
    return found


def test_the_fake_has_the_methods_of_the_log_with_their_signatures():
    real, fake = public_methods(EventLog), public_methods(MemoryEvents)
    assert {name: inspect.signature(fake[name]) for name in real} == {
        name: inspect.signature(method) for name, method in real.items()
    }


async def test_a_subscription_shows_what_happens_from_its_beginning_on(log: MemoryEvents, hub: Hub):
    log.listening = True
    log.tell("promptAdded", "old")
    waiting = asyncio.create_task(take(log, hub, 2))
    await until(lambda: "behind" in log.calls)
    log.tell("promptAdded", "new")
    log.tell("promptRemoved", "new")
    events = await asyncio.wait_for(waiting, 10)
    assert [(event.name, event.data["promptId"]) for event in events] == [
        ("promptAdded", "new"),
        ("promptRemoved", "new"),
    ]


async def test_it_resumes_behind_any_event(log: MemoryEvents, hub: Hub):
    log.listening = True
    for number in range(4):
        log.tell("promptAdded", f"p{number}")
    for index, event in enumerate(log.kept[:-1]):
        assert await take(log, hub, 3 - index, event.id) == log.kept[index + 1 :]


@pytest.mark.parametrize("position", [EventId(999, 5), EventId(1000, 9), EventId(2**63, 0), BEGINNING])
async def test_where_events_are_gone_it_says_so_and_goes_on_from_now(log: MemoryEvents, hub: Hub, position: EventId):
    log.listening = True
    log.tell("promptAdded", "kept")
    (missed,) = await take(log, hub, 1, position)
    assert (missed.name, missed.data, missed.id) == (MISSED, {}, log.kept[-1].id)


async def test_it_says_so_too_when_nothing_was_written_for_a_while(log: MemoryEvents, hub: Hub):
    log.listening = True
    log.tell("promptAdded")
    position = log.kept[-1].id
    log.listening = False  # the window is over; the stream happens to be there still
    assert [event.name for event in await take(log, hub, 1, position)] == [MISSED]
    log.expire()
    assert [event.name for event in await take(log, hub, 1, position)] == [MISSED]


async def test_a_living_subscription_keeps_the_events_coming(
    log: MemoryEvents, hub: Hub, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "_RENEW_S", -1)
    log.listening = True
    waiting = asyncio.create_task(take(log, hub, 1))
    await until(lambda: log.calls.count("listen") >= 2)
    log.tell("promptAdded")
    await asyncio.wait_for(waiting, 10)


async def test_who_stood_still_for_longer_than_the_window_is_told(
    log: MemoryEvents, hub: Hub, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "_RENEW_S", -1)
    log.listening = True
    async with asyncio.timeout(10), aclosing(follow(log, hub, USER, START)) as events:  # type: ignore[arg-type]
        following = asyncio.ensure_future(anext(events))
        await until(lambda: "listen" in log.calls)
        log.expire()
        log.listening = True
        log.tell("promptAdded")
        log.listening = False
        seen = [(await following).name, (await anext(events)).name]
    assert seen == ["promptAdded", MISSED]


async def test_nothing_is_missed_between_the_headers_and_the_first_look(log: MemoryEvents, hub: Hub):
    start = await begin(log, USER, None)  # type: ignore[arg-type]
    log.tell("promptAdded")
    async with asyncio.timeout(10), aclosing(follow(log, hub, USER, start)) as events:  # type: ignore[arg-type]
        assert (await anext(events)).name == "promptAdded"


@pytest.mark.parametrize("text", ["", "5", "1-", "-1", "a-b", "1-2-3", "٣-1", f"{2**64}-0", "1" * 50 + "-0", "1-1\n"])
def test_an_invented_id_is_refused(text: str):
    with pytest.raises(InvalidField, match="Last-Event-ID"):
        EventId.parse(text)


# -- on the wire ----------------------------------------------------------------------------------------------------------


class Stub:
    """Log and hub in one: some events, and whose were asked for."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def begin(self, log: Any, user_id: str, last: EventId | None) -> Start:
        self.asked.append((user_id, last))
        return START

    async def follow(self, log: Any, hub: Any, user_id: str, start: Start) -> AsyncIterator[Event]:
        assert start is START
        events: list[tuple[str, dict[str, str]]] = [
            ("promptAdded", {"promptId": "prom-1"}),
            ("promptProcessingStarted", {"promptId": "prom-1"}),
            ("promptProcessingFinished", {"promptId": "prom-1", "error": "out of blocks"}),
            ("promptProcessingStarted", {"promptId": "prom-1"}),
            ("promptProcessingFinished", {"promptId": "prom-1"}),
            ("promptRemoved", {"promptId": "prom-1"}),
            (MISSED, {}),
        ]
        for number, (name, data) in enumerate(events):
            yield Event(id=EventId(1767225600000, number), name=name, data=data)


class Tokens:
    def verify(self, encoded: str) -> Claims:
        if encoded != "good":
            raise Unauthorized
        return Claims(
            user_id="usr-1", slug="x", roles=(), app_id="a", device="", token_id="tok-1", expires_at=2_000_000_000
        )


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    stub = Stub()
    monkeypatch.setattr(module, "begin", stub.begin)
    monkeypatch.setattr(module, "follow", stub.follow)
    return stub


def client(token: str = "good") -> httpx.AsyncClient:
    settings: Any = SimpleNamespace(sse_heartbeat_s=15.0)
    nothing: Any = None
    app = web_app(FirehoseSvc(settings, nothing, nothing).routes(Gate(Tokens())))  # type: ignore[arg-type]
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://t", headers=headers)


PATH = "/firehose-svc/events/subscribe"


async def test_the_events_byte_for_byte(stub: Stub):
    reply = await client().get(PATH)
    assert (reply.status_code, reply.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    check_text("firehose.txt", reply.text)
    assert stub.asked == [("usr-1", None)]


async def test_the_last_event_id_says_where_to_go_on(stub: Stub):
    await client().get(PATH, headers={"Last-Event-ID": "1767225600000-3"})
    assert stub.asked == [("usr-1", EventId(1767225600000, 3))]


async def test_another_last_event_id_is_refused(stub: Stub):
    reply = await client().get(PATH, headers={"Last-Event-ID": "3"})
    assert reply.status_code == 400
    assert reply.json()["error"].startswith("Last-Event-ID: got ")
    assert stub.asked == []


@pytest.mark.parametrize("token", ["", "expired"])
async def test_without_a_good_token_there_are_no_events(stub: Stub, token: str):
    reply = await client(token).get(PATH)
    assert (reply.status_code, reply.json()) == (401, {"error": "Unauthorized"})
    assert stub.asked == []
