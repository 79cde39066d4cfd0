import asyncio
from collections.abc import AsyncIterator

import anyio
import pytest

from deployments import tasks
from deployments.ingress import hub as module
from deployments.ingress.hub import Hub, Watch
from deployments.tasks import Supervisor
from pipeline.store.bells import Ring
from tests.unit.logs_in_memory import THREAD, USER, MemoryLogs
from tests.waiting import until


@pytest.fixture
def logs() -> MemoryLogs:
    return MemoryLogs()


@pytest.fixture
async def hub(logs: MemoryLogs, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    monkeypatch.setattr(module, "RECONNECT_S", 0)
    monkeypatch.setattr(tasks, "FIRST_PAUSE_S", 0)
    monkeypatch.setattr(module, "LOOK_ANYWAY_S", 60)
    supervisor = Supervisor()
    yield Hub(logs, logs.keys, supervisor)  # type: ignore[arg-type]
    await supervisor.stop()


def channel(logs: MemoryLogs, thread: str = THREAD) -> str:
    return logs.keys.bell(f"{USER}/{thread}")


async def test_a_watch_hears_everything_from_the_moment_it_is_entered(hub: Hub, logs: MemoryLogs):
    async with hub.watch(USER, THREAD) as watch:
        ref = logs.begin("p")
        # The subscription itself rings blindly; what follows it does not.
        await asyncio.wait_for(watch.news(), 5)
        logs.add(ref, "text")
        assert await asyncio.wait_for(watch.news(), 5)
        watch.awaited = 1
        assert not watch.has_ended
        logs.end(ref)
        await until(lambda: watch.has_ended)


async def test_silence_is_a_reason_to_look(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "LOOK_ANYWAY_S", 0)
    async with hub.watch(USER, THREAD) as watch:
        await until(lambda: watch._news.is_set())
        assert not await watch.news()  # subscribed: rings may have been missed before
        assert not await watch.news()  # nothing rang


@pytest.mark.parametrize("turns", range(4))
async def test_a_cancellation_that_comes_together_with_a_ring_is_not_lost(turns: int):
    watch = Watch()
    waiting = asyncio.create_task(watch.news())
    await until(lambda: watch._news._waiters)
    watch.ring(Ring(place=1, entry=None, is_end=False))
    for _ in range(turns):
        await asyncio.sleep(0)
    if waiting.cancel():
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_watchers_of_a_thread_share_a_subscription_that_ends_with_the_last(hub: Hub, logs: MemoryLogs):
    async with hub.watch(USER, THREAD):
        async with hub.watch(USER, THREAD), hub.watch(USER, "other"):
            assert hub.watching == 2
            assert {channel(logs), channel(logs, "other")} <= logs.pubsubs[0].channels
        assert hub.watching == 1
    assert hub.watching == 0
    await until(lambda: logs.pubsubs[0].channels == {logs.keys.bell("")})


async def test_a_watcher_that_goes_while_the_hub_connects_leaves_the_next_one_its_subscription(
    hub: Hub, logs: MemoryLogs
):
    async def watch(thread: str) -> None:
        async with hub.watch(USER, thread):
            pass

    logs.reachable.clear()
    other = asyncio.create_task(watch("other"))
    await until(lambda: logs.pubsubs)
    leaving = asyncio.create_task(watch(THREAD))
    await until(lambda: hub.watching == 2)
    staying = asyncio.create_task(watch(THREAD))
    await until(lambda: len(hub._watches[channel(logs)]) == 2)
    leaving.cancel()
    await asyncio.wait([leaving])
    logs.reachable.set()
    await asyncio.wait_for(asyncio.gather(other, staying), 5)


async def test_a_watcher_in_a_cancelled_scope_leaves_its_channel(hub: Hub, logs: MemoryLogs):
    with anyio.CancelScope() as scope:
        async with hub.watch(USER, THREAD):
            scope.cancel()
            await anyio.sleep_forever()
    await until(lambda: logs.pubsubs[0].channels == {logs.keys.bell("")})


async def test_nobody_connects_until_somebody_watches(hub: Hub, logs: MemoryLogs):
    for _ in range(5):
        await asyncio.sleep(0)
    assert logs.pubsubs == []


async def test_a_lost_connection_is_made_anew_and_every_watcher_looks(hub: Hub, logs: MemoryLogs):
    async with hub.watch(USER, THREAD) as watch, hub.watch(USER, "other") as other:
        for each in (watch, other):
            await asyncio.wait_for(each.news(), 5)
        logs.break_connections()
        for each in (watch, other):
            assert not await asyncio.wait_for(each.news(), 5)
        assert logs.pubsubs[0].closed
        assert {channel(logs), channel(logs, "other")} <= logs.pubsubs[1].channels
        logs.begin("p")
        assert await asyncio.wait_for(watch.news(), 5)


async def test_a_watch_begun_while_the_connection_is_away_hears_too(hub: Hub, logs: MemoryLogs):
    async with hub.watch(USER, "other"):
        logs.break_connections()
        async with hub.watch(USER, THREAD) as watch:
            await asyncio.wait_for(watch.news(), 5)
            logs.begin("p")
            assert await asyncio.wait_for(watch.news(), 5)


async def test_readers_of_one_moment_share_a_round_trip_and_readers_of_one_place_its_answer(hub: Hub, logs: MemoryLogs):
    a, b = logs.begin("a"), logs.begin("b")
    logs.add(a, "of a")
    logs.add(b, "of b")
    pages = await asyncio.wait_for(asyncio.gather(hub.read(a, 0), hub.read(a, 0), hub.read(b, 0), hub.read(b, 1)), 5)
    assert [[entry.delta.text for entry in page] for page in pages] == [["of a"], ["of a"], ["of b"], []]
    assert [len(trip) for trip in logs.round_trips] == [3]


async def test_a_failed_read_is_its_readers_and_the_next_one_works(hub: Hub, logs: MemoryLogs):
    ref = logs.begin("a")
    logs.add(ref, "text")
    logs.failing = [ConnectionError("away")]
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(hub.read(ref, 0), 5)
    assert len(await asyncio.wait_for(hub.read(ref, 0), 5)) == 1


async def test_a_log_that_cannot_be_read_is_no_matter_of_the_others(hub: Hub, logs: MemoryLogs):
    a, b = logs.begin("a"), logs.begin("b")
    logs.add(a, "of a")
    logs.spoil(a)
    logs.add(b, "of b")
    failed, page = await asyncio.wait_for(asyncio.gather(hub.read(a, 0), hub.read(b, 0), return_exceptions=True), 5)
    assert isinstance(failed, ValueError)
    assert isinstance(page, list)
    assert [entry.delta.text for entry in page] == ["of b"]


async def test_a_ring_of_another_version_is_a_reason_to_look(hub: Hub, logs: MemoryLogs):
    async with hub.watch(USER, THREAD) as watch:
        await asyncio.wait_for(watch.news(), 5)
        logs.ring('1 1\n{"k": "smell"}')
        assert not await asyncio.wait_for(watch.news(), 5)


async def test_a_reader_that_leaves_takes_nothing_from_the_others(hub: Hub, logs: MemoryLogs):
    ref = logs.begin("a")
    logs.add(ref, "text")
    leaving, staying = (asyncio.create_task(hub.read(ref, 0)) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    assert len(await asyncio.wait_for(staying, 5)) == 1


async def test_reading_costs_nothing_for_watchers_without_news(hub: Hub, logs: MemoryLogs):
    async with hub.watch(USER, "idle 1"), hub.watch(USER, "idle 2"), hub.watch(USER, THREAD):
        ref = logs.begin("a")
        logs.add(ref, "text")
        await asyncio.wait_for(hub.read(ref, 0), 5)
    assert logs.round_trips == [[logs.keys.log(ref)]]
