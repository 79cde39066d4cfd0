"""Work in threads that never outlives its caller."""

import asyncio
import threading

import pytest

from pipeline.files.threads import Threads


async def test_the_result_and_the_error_come_back():
    threads = Threads(1, "test")
    assert await threads.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await threads.run(divmod, 7, 0)
    threads.close()


@pytest.mark.parametrize("fails", [False, True])
async def test_a_cancelled_caller_waits_for_the_work_it_began(fails: bool):
    threads, started, go = Threads(1, "test"), threading.Event(), threading.Event()
    ended = []

    def work() -> None:
        started.set()
        assert go.wait(30)
        ended.append(True)
        if fails:
            raise ValueError

    caller = asyncio.create_task(threads.run(work))
    await asyncio.to_thread(started.wait, 30)
    caller.cancel()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not caller.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended == [True]
    threads.close()


async def test_work_that_has_not_begun_is_not_done_for_a_cancelled_caller():
    threads, started, go = Threads(1, "test"), threading.Event(), threading.Event()

    def block() -> None:
        started.set()
        assert go.wait(30)

    first = asyncio.create_task(threads.run(block))
    await asyncio.to_thread(started.wait, 30)
    second = asyncio.create_task(threads.run(pytest.fail, "nobody wants it"))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    go.set()
    await first
    threads.close()
