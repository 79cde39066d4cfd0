import asyncio
import contextvars

import pytest

from deployments import tasks
from deployments.tasks import Supervisor
from tests.waiting import until

variable = contextvars.ContextVar("variable", default="fresh")


async def test_a_task_that_fails_is_started_again_and_its_error_is_logged_without_its_text(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(tasks, "FIRST_PAUSE_S", 0)
    supervisor = Supervisor()
    runs = []
    text = "canary"

    async def work() -> None:
        runs.append(1)
        if len(runs) < 3:
            raise ValueError(text)
        await asyncio.Event().wait()

    supervisor.keep_running(work, name="work")
    await until(lambda: len(runs) == 3)
    assert "work failed, starting it again: ValueError" in caplog.text
    assert "canary" not in caplog.text
    await supervisor.stop()


async def test_a_task_does_not_inherit_the_context_of_a_request():
    supervisor = Supervisor()
    variable.set("of a request")

    async def look() -> str:
        return variable.get()

    assert await supervisor.spawn(look(), name="look") == "fresh"


async def test_stopping_cancels_every_task_and_waits_for_it():
    supervisor = Supervisor()
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = supervisor.spawn(work(), name="work")
    await asyncio.sleep(0)
    await supervisor.stop()
    assert ended.is_set()
    assert task.cancelled()
