import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from redis.exceptions import ResponseError

from deployments.replica import log_writer, persist
from deployments.replica.log_writer import LogTail, LogWriter
from pipeline.delta import Delta
from tests.unit.attempts_in_memory import MemoryAttempts, StoredPrompt, away

FOR_EVER = 3600.0


def tail(ref: str = "a", fence: int = 1) -> LogTail:
    return LogTail(ref=ref, fence=fence, written=0)


def delta(text: str) -> Delta:
    return Delta(text=text, token_ids=tuple(text.encode()))


@pytest.fixture
def store() -> MemoryAttempts:
    return MemoryAttempts(a=StoredPrompt((1,)), b=StoredPrompt((1,)))


@pytest.fixture
async def writer(store: MemoryAttempts) -> AsyncIterator[LogWriter]:
    writer = LogWriter(store)  # type: ignore[arg-type]
    task = asyncio.create_task(writer.run())
    yield writer
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, ResponseError):
        await task


def texts(store: MemoryAttempts, ref: str = "a") -> list[str]:
    return [entry.delta.text for entry in store.prompts[ref].log]


async def test_the_first_delta_is_written_at_once_and_the_next_ones_gather(
    writer: LogWriter, store: MemoryAttempts, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(log_writer, "COALESCE_S", FOR_EVER)
    of_a = tail()
    writer.put(of_a, delta("one "))
    await store.seen("append")
    for word in ("two ", "three ", "four"):
        writer.put(of_a, delta(word))
        await asyncio.sleep(0)
    gathered = await writer.take(of_a)
    assert texts(store) == ["one "]
    assert gathered == [delta("two three four")]
    assert of_a.written == 1


async def test_the_first_delta_of_another_attempt_does_not_wait_for_the_ones_that_gather(
    writer: LogWriter, store: MemoryAttempts, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(log_writer, "COALESCE_S", FOR_EVER)
    of_a, of_b = tail("a"), tail("b")
    writer.put(of_a, delta("one "))
    await store.seen("append")
    writer.put(of_a, delta("two "))
    for _ in range(5):  # the writer begins to gather
        await asyncio.sleep(0)
    writer.put(of_b, delta("first"))
    await store.seen("append", times=2)
    assert texts(store, "b") == ["first"]
    assert texts(store, "a") == ["one ", "two "]


async def test_what_comes_during_a_write_becomes_one_entry(writer: LogWriter, store: MemoryAttempts):
    store.answering.clear()
    of_a = tail()
    writer.put(of_a, delta("one "))
    await store.seen("append")
    for word in ("two ", "three"):
        writer.put(of_a, delta(word))
    store.answering.set()
    await store.seen("append", times=2)
    assert await writer.take(of_a) == []
    assert texts(store) == ["one ", "two three"]
    assert [entry.delta.token_ids for entry in store.prompts["a"].log] == [tuple(b"one "), tuple(b"two three")]


async def test_several_attempts_share_a_write(writer: LogWriter, store: MemoryAttempts):
    for ref in ("a", "b"):
        writer.put(tail(ref), delta(ref))
    await store.seen("append")
    assert store.calls == ["append"]
    assert (texts(store, "a"), texts(store, "b")) == (["a"], ["b"])


async def test_a_refused_write_stops_its_attempt_and_no_other(writer: LogWriter, store: MemoryAttempts):
    store.cancel("a")
    of_a, of_b = tail("a"), tail("b")
    writer.put(of_a, delta("late"))
    writer.put(of_b, delta("fine"))
    await asyncio.wait_for(of_a.refused.wait(), 5)
    assert not of_b.refused.is_set()
    assert texts(store, "a") == [""]  # the end entry of the cancel
    assert of_a.written == 0


async def test_taking_what_is_unwritten_waits_for_the_write_under_way(writer: LogWriter, store: MemoryAttempts):
    store.answering.clear()
    of_a = tail()
    writer.put(of_a, delta("one "))
    await store.seen("append")
    writer.put(of_a, delta("two"))
    taking = asyncio.create_task(writer.take(of_a))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not taking.done()
    store.answering.set()
    assert await asyncio.wait_for(taking, 5) == [delta("two")]
    assert of_a.written == 1


async def test_a_store_that_is_away_is_waited_for(
    writer: LogWriter, store: MemoryAttempts, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(persist, "RETRY_S", 0)
    store.failing = [away(), away()]
    of_a = tail()
    writer.put(of_a, delta("one"))
    await store.seen("append", times=3)
    assert await writer.take(of_a) == []
    assert texts(store) == ["one"]
    assert not of_a.refused.is_set()


async def test_an_entry_whose_answer_was_lost_is_written_once(store: MemoryAttempts):
    entry = ("a", 1, 1, delta("one"))
    assert await store.append([entry]) == await store.append([entry]) == [True]
    assert texts(store) == ["one"]


async def test_a_write_that_the_store_cannot_take_stops_its_attempts(writer: LogWriter, store: MemoryAttempts):
    store.failing = [ResponseError("WRONGTYPE")]
    of_a = tail()
    writer.put(of_a, delta("one"))
    await asyncio.wait_for(of_a.refused.wait(), 5)
    assert texts(store) == []
