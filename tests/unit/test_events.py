"""A subscription to a user's events: where it begins, what it shows, and what it says it does not."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from deployments.ingress import events as module
from deployments.ingress import hub as hub_module
from deployments.ingress.events import MISSED, Start, begin, follow
from deployments.ingress.firehose_svc_operations import LAST_EVENT_ID
from deployments.ingress.hub import Hub
from deployments.tasks import Supervisor
from pipeline.errors import InvalidField
from pipeline.store.events import BEGINNING, Event, EventId, EventLog
from tests.unit.attempts_in_memory import public_methods
from tests.unit.events_in_memory import MemoryEvents
from tests.unit.logs_in_memory import USER, MemoryLogs
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


async def read_late(log: MemoryEvents, hub: Hub, count: int, cut_off: int) -> list[Event]:
    """``count`` events behind the first, read when five were told and as many as ``cut_off`` are no longer kept."""
    log.listening = True
    log.tell("promptAdded", "p0")
    async with asyncio.timeout(10), aclosing(follow(log, hub, USER, START)) as events:  # type: ignore[arg-type]
        await anext(events)
        for number in range(1, 5):
            log.tell("promptAdded", f"p{number}")
        log.cut_off(cut_off)
        return [await anext(events) for _ in range(count)]


@pytest.mark.parametrize("cut_off", [0, 1])
async def test_a_reader_that_is_slow_but_misses_nothing_is_told_nothing(log: MemoryEvents, hub: Hub, cut_off: int):
    seen = await read_late(log, hub, 4, cut_off)
    assert [event.data.get("promptId") for event in seen] == ["p1", "p2", "p3", "p4"]


@pytest.mark.parametrize("cut_off", [2, 4])
async def test_a_reader_that_falls_behind_is_told_and_goes_on_where_the_lacking_ones_end(
    log: MemoryEvents, hub: Hub, cut_off: int
):
    missed, following = await read_late(log, hub, 2, cut_off)
    assert (missed.name, missed.data, missed.id) == (MISSED, {}, following.after)
    assert following.data["promptId"] == f"p{cut_off}"


async def test_so_is_one_that_has_read_nothing_yet(log: MemoryEvents, hub: Hub):
    log.listening = True
    for _ in range(3):
        log.tell("promptAdded")
    log.cut_off(1)
    async with asyncio.timeout(10), aclosing(follow(log, hub, USER, START)) as events:  # type: ignore[arg-type]
        assert [(await anext(events)).name for _ in range(3)] == [MISSED, "promptAdded", "promptAdded"]


async def test_so_is_one_whose_events_began_anew(log: MemoryEvents, hub: Hub):
    log.listening = True
    log.tell("promptAdded")
    async with asyncio.timeout(10), aclosing(follow(log, hub, USER, START)) as events:  # type: ignore[arg-type]
        await anext(events)
        log.expire()
        log.listening = True  # another subscription of the user
        log.tell("promptRemoved")
        assert [(await anext(events)).name for _ in range(2)] == [MISSED, "promptRemoved"]


async def test_it_resumes_behind_the_last_event_that_was_cut_off(log: MemoryEvents, hub: Hub):
    log.listening = True
    for _ in range(4):
        log.tell("promptAdded")
    lost, last_lost, *kept = log.kept
    log.cut_off(2)
    assert await take(log, hub, 2, last_lost.id) == kept
    assert [event.name for event in await take(log, hub, 1, lost.id)] == [MISSED]


async def test_events_of_an_earlier_version_are_shown_as_they_are(log: MemoryEvents, hub: Hub):
    log.listening = True
    for _ in range(3):
        log.tell("promptAdded")
    log.kept[:] = [replace(event, after=None) for event in log.kept]
    assert await take(log, hub, 2, log.kept[0].id) == log.kept[1:]


@asynccontextmanager
async def renewed(
    log: Any, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[asyncio.Future[Event], AsyncGenerator[Event, None]]]:
    """A subscription that has shown that it lives: its next event, and those behind it."""
    monkeypatch.setattr(module, "_RENEW_S", -1)
    log.listening = True
    async with asyncio.timeout(10), aclosing(follow(log, hub, USER, START)) as events:
        following = asyncio.ensure_future(anext(events))
        await until(lambda: "listen" in log.calls)
        yield following, events


async def test_a_living_subscription_keeps_the_events_coming(
    log: MemoryEvents, hub: Hub, monkeypatch: pytest.MonkeyPatch
):
    async with renewed(log, hub, monkeypatch) as (following, _):
        log.tell("promptAdded")
        assert (await following).name == "promptAdded"


async def test_who_stood_still_for_longer_than_the_window_is_told(
    log: MemoryEvents, hub: Hub, monkeypatch: pytest.MonkeyPatch
):
    async with renewed(log, hub, monkeypatch) as (following, events):
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


@pytest.mark.parametrize("text", ["0-0", "1767225600000-0", "9" * 19 + "-" + "9" * 19])
def test_an_id_is_written_as_it_is_read(text: str):
    assert str(EventId.parse(text)) == text
    assert re.fullmatch(LAST_EVENT_ID.schema["pattern"], text)


@pytest.mark.parametrize(
    "text", ["5", "1-", "-1", "a-b", "1-2-3", "٣-1", f"{10**19}-0", f"0-{2**64 - 1}", "1" * 50 + "-0", "1-1\n"]
)
def test_an_invented_id_is_refused_as_the_openapi_document_says(text: str):
    with pytest.raises(InvalidField, match="Last-Event-ID"):
        EventId.parse(text)
    assert not re.fullmatch(LAST_EVENT_ID.schema["pattern"], text)


def test_no_text_is_no_id():
    # As a header it stands for none.
    with pytest.raises(InvalidField, match="Last-Event-ID"):
        EventId.parse("")
