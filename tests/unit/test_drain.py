"""A replica that is to leave: nothing new, what runs is finished, the rest is handed back in time."""

import asyncio
from collections.abc import Callable

import pytest

from deployments.replica import drain as module
from deployments.replica.attempts import Outcome
from deployments.replica.drain import Drain
from deployments.tasks import Supervisor
from pipeline.delta import Delta, DeltaKind, FinishReason
from pipeline.states import Status
from pipeline.store.attempts import Standing
from tests.unit.replicas import HandDriven, NewReplica, Replica, prompt, within
from tests.waiting import until

END = Delta(kind=DeltaKind.END, text="three", token_ids=(3,), finish_reason=FinishReason.STOP)


class Beats:
    """Counts heartbeats, and what each would have said."""

    def __init__(self, replica: Replica) -> None:
        self.offered: list[int] = []
        self._replica = replica

    def __call__(self) -> None:
        self.offered.append(self._replica.runner.permits.offered)


@pytest.fixture
async def begin(new_replica: NewReplica, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "AGAIN_S", 0.01)
    supervisor = Supervisor()

    def make(engine: HandDriven, drain_s: float) -> tuple[Replica, Drain, Beats]:
        replica = new_replica(engine, permits=4, a=prompt(), b=prompt(), c=prompt())
        beats = Beats(replica)
        return replica, Drain(replica.runner, drain_s=drain_s, supervisor=supervisor, beat=beats), beats

    yield make
    await supervisor.stop()


Begin = Callable[[HandDriven, float], tuple[Replica, Drain, Beats]]


async def running(replica: Replica, engine: HandDriven, *refs: str) -> list[asyncio.Task[Outcome]]:
    tasks = [replica.run(ref) for ref in refs]
    await until(lambda: len(engine.requests) == len(refs))
    return tasks


async def test_what_runs_is_finished_and_each_end_is_told(begin: Begin):
    engine = HandDriven()
    replica, drain, beats = begin(engine, 1000)
    tasks = await running(replica, engine, "a", "b")
    drain.heard(Standing.LEAVING)
    assert beats.offered == [2]
    for task_number in (1, 2):
        engine.steps.put_nowait(END)
        await until(lambda n=task_number: beats.offered == [2, 1, 0][: n + 1])
    assert [await within(task) for task in tasks] == [Outcome.ENDED] * 2
    assert [replica.store.prompts[ref].status for ref in "ab"] == [Status.COMPLETED] * 2


async def test_nothing_new_is_taken(begin: Begin):
    engine = HandDriven()
    replica, drain, _ = begin(engine, 1000)
    (task,) = await running(replica, engine, "a")
    drain.heard(Standing.LEAVING)
    assert await within(replica.run("b")) is Outcome.FULL
    assert await within(replica.run("c", alone=True)) is Outcome.FULL
    stored = replica.store.prompts["b"]
    assert (stored.status, stored.runs) == (Status.SCHEDULED, 0)
    engine.steps.put_nowait(END)
    assert await within(task) is Outcome.ENDED


async def test_what_waits_to_run_alone_goes_elsewhere(begin: Begin):
    engine = HandDriven()
    replica, drain, _ = begin(engine, 1000)
    (task,) = await running(replica, engine, "a")
    alone = replica.run("b", alone=True)
    await until(lambda: not replica.runner.permits.try_acquire())
    drain.heard(Standing.LEAVING)
    assert await within(alone) is Outcome.FULL
    assert replica.store.prompts["b"].status is Status.SCHEDULED
    engine.steps.put_nowait(END)
    assert await within(task) is Outcome.ENDED


async def test_what_is_left_when_the_time_is_over_is_handed_back_uncharged(begin: Begin):
    engine = HandDriven()
    replica, drain, beats = begin(engine, 0.01)
    tasks = await running(replica, engine, "a", "b")
    drain.heard(Standing.LEAVING)
    assert [await within(task) for task in tasks] == [Outcome.STALE] * 2
    for ref in "ab":
        stored = replica.store.prompts[ref]
        assert (stored.status, stored.runs, stored.failures, stored.crashes) == (Status.SCHEDULED, 0, 0, 0)
    await until(lambda: beats.offered[-1] == 0)


async def test_who_stays_after_all_takes_prompts_again(begin: Begin):
    engine = HandDriven()
    replica, drain, beats = begin(engine, 1000)
    (task,) = await running(replica, engine, "a")
    drain.heard(Standing.LEAVING)
    drain.heard(Standing.LEAVING)
    drain.heard(Standing.SERVING)
    assert beats.offered == [1, 1, 4]
    assert not drain.is_leaving
    other = replica.run("b")
    await until(lambda: len(engine.requests) == 2)
    for _ in range(2):
        engine.steps.put_nowait(END)
    assert [await within(one) for one in (task, other)] == [Outcome.ENDED] * 2


async def test_a_store_that_does_not_know_it_calls_nobody_back(begin: Begin):
    engine = HandDriven()
    replica, drain, _ = begin(engine, 1000)
    (task,) = await running(replica, engine, "a")
    drain.heard(Standing.LEAVING)
    drain.heard(Standing.UNKNOWN)
    assert drain.is_leaving
    assert await within(replica.run("b")) is Outcome.FULL
    engine.steps.put_nowait(END)
    assert await within(task) is Outcome.ENDED


async def test_an_idle_replica_has_nothing_to_wait_for(begin: Begin):
    replica, drain, beats = begin(HandDriven(), 1000)
    drain.heard(Standing.LEAVING)
    assert beats.offered == [0]
    assert await within(replica.run("a")) is Outcome.FULL
