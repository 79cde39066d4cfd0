import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from deployments.ingress import hub as module
from deployments.ingress.hub import Hub
from deployments.ingress.threads import Cursor, ThreadEvent, ThreadReader, Waiting
from deployments.tasks import Supervisor
from pipeline.delta import DeltaKind
from pipeline.errors import InvalidField
from pipeline.prompt import Prompt
from pipeline.states import Status
from tests.unit.logs_in_memory import THREAD, USER, MemoryLogs
from tests.waiting import until


@pytest.fixture
def logs() -> MemoryLogs:
    return MemoryLogs()


@pytest.fixture
async def reader(logs: MemoryLogs, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ThreadReader]:
    monkeypatch.setattr(module, "LOOK_ANYWAY_S", 60)
    supervisor = Supervisor()
    yield ThreadReader(logs, logs.keys, Hub(logs, logs.keys, supervisor))  # type: ignore[arg-type]
    await supervisor.stop()


async def take(reader: ThreadReader, count: int, cursor: Cursor | None = None) -> list[ThreadEvent]:
    """The next events of the thread."""
    found: list[ThreadEvent] = []
    async with asyncio.timeout(10), aclosing(reader.follow(USER, THREAD, cursor)) as events:
        async for event in events:
            found.append(event)
            if len(found) == count:
                break
    return found


def shown(events: list[ThreadEvent]) -> list[tuple[str, str]]:
    return [(event.prompt_id, event.entry.delta.text or event.entry.delta.kind.value) for event in events]


async def test_answers_come_in_the_order_of_submission_though_they_are_written_in_parallel(
    reader: ThreadReader, logs: MemoryLogs
):
    a, b = logs.begin("a"), logs.begin("b")
    logs.add(b, "b1")
    logs.add(a, "a1")
    logs.end(b)
    logs.add(a, "a2")
    logs.end(a)
    assert shown(await take(reader, 5, Cursor(place=0, number=0))) == [
        ("a", "a1"),
        ("a", "a2"),
        ("a", "end"),
        ("b", "b1"),
        ("b", "end"),
    ]


async def test_a_subscription_resumes_behind_any_event(reader: ThreadReader, logs: MemoryLogs):
    for name in ("a", "b"):
        ref = logs.begin(name)
        for text in ("1", "2", "3"):
            logs.add(ref, text)
        logs.end(ref)
    everything = await take(reader, 8, Cursor(place=0, number=0))
    for index, event in enumerate(everything[:-1]):
        assert await take(reader, 7 - index, event.cursor) == everything[index + 1 :]


async def test_without_a_cursor_it_begins_with_the_first_answer_that_is_not_finished(
    reader: ThreadReader, logs: MemoryLogs
):
    done, open_ = logs.begin("done"), logs.begin("open")
    logs.add(done, "old")
    logs.end(done)
    logs.add(open_, "new")
    assert shown(await take(reader, 1)) == [("open", "new")]


async def test_one_can_subscribe_before_there_is_a_prompt(reader: ThreadReader, logs: MemoryLogs):
    waiting = asyncio.create_task(take(reader, 2))
    await until(lambda: "zrangebyscore" in logs.commands)
    ref = logs.begin("a")
    logs.add(ref, "hello")
    logs.end(ref)
    assert shown(await asyncio.wait_for(waiting, 10)) == [("a", "hello"), ("a", "end")]


async def test_what_is_finished_is_not_shown_again_to_who_comes_later(reader: ThreadReader, logs: MemoryLogs):
    old = logs.begin("old")
    logs.add(old, "stale")
    logs.end(old)
    waiting = asyncio.create_task(take(reader, 1))
    await until(lambda: "zrangebyscore" in logs.commands)
    logs.add(logs.begin("new"), "fresh")
    assert shown(await asyncio.wait_for(waiting, 10)) == [("new", "fresh")]


@pytest.mark.parametrize("status", [Status.CANCELED, Status.ABANDONED])
async def test_an_answer_that_will_never_come_does_not_hold_up_the_next(
    reader: ThreadReader, logs: MemoryLogs, status: Status
):
    a, b = logs.begin("a"), logs.begin("b")
    waiting = asyncio.create_task(take(reader, 2))
    await until(lambda: "hmget" in logs.commands)
    logs.add(b, "b1")
    logs.end(a, status)
    events = await asyncio.wait_for(waiting, 10)
    assert shown(events) == [("a", "end"), ("b", "b1")]
    assert events[0].entry.delta.kind is DeltaKind.END


async def test_that_an_answer_has_not_begun_is_told_once(reader: ThreadReader, logs: MemoryLogs):
    a, b = logs.begin("a"), logs.begin("b")
    logs.add(b, "b1")
    found: list[ThreadEvent | Waiting] = []

    async def attend() -> None:
        async with aclosing(reader.attend(USER, THREAD, None)) as events:
            async for event in events:
                found.append(event)
                if len(found) == 5:
                    break

    attending = asyncio.create_task(attend())
    await until(lambda: found)
    logs.add(a, "a1")
    logs.add(a, "a2")
    logs.end(a)
    await asyncio.wait_for(attending, 10)
    assert [event.ref if isinstance(event, Waiting) else event.prompt_id for event in found] == [a, "a", "a", "a", "b"]


async def test_an_erased_prompt_is_passed_over(reader: ThreadReader, logs: MemoryLogs):
    a, b = logs.begin("a"), logs.begin("b")
    logs.add(a, "a1")
    logs.add(b, "b1")

    async def collect() -> list[tuple[str, str]]:
        found = []
        async with aclosing(reader.follow(USER, THREAD, None)) as events:
            async for event in events:
                found.append(event)
                if len(found) == 1:
                    logs.end(a)
                    logs.erase(a)
                elif len(found) == 2:
                    return shown(found)
        raise AssertionError

    assert await asyncio.wait_for(collect(), 10) == [("a", "a1"), ("b", "b1")]


async def test_a_cursor_of_an_erased_prompt_goes_on_with_the_next(reader: ThreadReader, logs: MemoryLogs):
    a, b = logs.begin("a"), logs.begin("b")
    logs.end(a)
    logs.erase(a)
    logs.add(b, "b1")
    assert shown(await take(reader, 1, Cursor(place=1, number=3))) == [("b", "b1")]


async def test_a_cursor_this_thread_never_had_begins_with_what_comes(reader: ThreadReader, logs: MemoryLogs):
    logs.end(logs.begin("old"))
    waiting = asyncio.create_task(take(reader, 1, Cursor(place=99, number=7)))
    await until(lambda: "zrangebyscore" in logs.commands)
    logs.add(logs.begin("new"), "fresh")
    assert shown(await asyncio.wait_for(waiting, 10)) == [("new", "fresh")]


async def test_what_rings_is_not_read_again(reader: ThreadReader, logs: MemoryLogs):
    ref = logs.begin("a")
    waiting = asyncio.create_task(take(reader, 4))
    # Found empty, and found empty again after the blind ring of the subscription.
    await until(lambda: logs.commands.count("hmget") == 2)
    reads = len(logs.round_trips)
    for text in ("1", "2", "3"):
        logs.add(ref, text)
        await asyncio.sleep(0)
    logs.end(ref)
    assert shown(await asyncio.wait_for(waiting, 10)) == [("a", "1"), ("a", "2"), ("a", "3"), ("a", "end")]
    assert len(logs.round_trips) == reads


async def test_an_entry_whose_ring_is_lost_is_read_before_the_next(reader: ThreadReader, logs: MemoryLogs):
    ref = logs.begin("a")
    waiting = asyncio.create_task(take(reader, 5))
    await until(lambda: logs.commands.count("hmget") == 2)
    logs.add(ref, "1")
    logs.add_unheard(ref, "2")
    logs.add(ref, "3")
    logs.add(ref, "4")
    logs.end(ref)
    events = await asyncio.wait_for(waiting, 10)
    assert [event.entry.number for event in events] == [1, 2, 3, 4, 5]


async def test_a_reader_that_falls_behind_what_is_kept_reads_the_log(
    reader: ThreadReader, logs: MemoryLogs, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "MOST_HEARD", 2)
    ref = logs.begin("a")
    waiting = asyncio.create_task(take(reader, 11))
    await until(lambda: logs.commands.count("hmget") == 2)
    for number in range(10):
        logs.add(ref, str(number))
    logs.end(ref)
    events = await asyncio.wait_for(waiting, 10)
    assert [event.entry.number for event in events] == list(range(1, 12))


async def test_prompts_that_run_beside_the_one_that_is_shown_cost_no_reads(reader: ThreadReader, logs: MemoryLogs):
    a, b = logs.begin("a"), logs.begin("b")
    waiting = asyncio.create_task(take(reader, 1))
    await until(lambda: logs.commands.count("hmget") == 2)
    reads = len(logs.round_trips)
    for _ in range(20):
        logs.add(b, "b")
        await asyncio.sleep(0)
    assert len(logs.round_trips) == reads
    logs.add(a, "a")
    assert shown(await asyncio.wait_for(waiting, 10)) == [("a", "a")]


async def test_readers_do_not_disturb_each_other(reader: ThreadReader, logs: MemoryLogs):
    ref = logs.begin("a")
    both = [asyncio.create_task(take(reader, 4)) for _ in range(2)]
    # Both have found where to begin; behind the end of the answer there would be nothing to read.
    await until(lambda: logs.commands.count("zrange") >= 2)
    for text in ("1", "2", "3"):
        logs.add(ref, text)
        await asyncio.sleep(0)
    logs.end(ref)
    first, second = await asyncio.wait_for(asyncio.gather(*both), 10)
    assert first == second


@pytest.mark.parametrize("text", ["0-0", "3-17", "12-0", "1" * 19 + "-" + "2" * 19])
def test_a_cursor_is_written_as_it_is_read(text: str):
    assert str(Cursor.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "3", "-1", "3-", "a-1", "1--2", "1-2-3", "٣-1", "1-1\n", "1" * 40 + "-1", "1-" + "9" * 20]
)
def test_what_is_no_cursor_is_refused_by_name(text: str):
    with pytest.raises(InvalidField, match="Last-Event-ID"):
        Cursor.parse(text)


def prompt_of(ref: str, place: int) -> Prompt:
    record = {b"id": ref.split("/")[1], b"user": USER, b"thread": THREAD, b"status": "scheduled"}
    return Prompt.from_record({**{name: value.encode() for name, value in record.items()}, b"place": b"%d" % place})


async def test_one_answer_is_followed_to_its_end_and_no_further(reader: ThreadReader, logs: MemoryLogs):
    a, b = logs.begin("a"), logs.begin("b")
    logs.add(b, "b1")
    logs.add(a, "a1")

    async def follow(after: int) -> list[str]:
        async with asyncio.timeout(10):
            return [entry.delta.text async for entry in reader.answer(prompt_of(b, 2), after=after)]

    reading = asyncio.ensure_future(follow(0))
    await until(lambda: logs.pubsubs and len(logs.pubsubs[-1].channels) > 1)
    logs.add(b, "b2")
    logs.end(b)
    assert await reading == ["b1", "b2", ""]
    assert await follow(1) == ["b2", ""]
    assert await follow(3) == []
