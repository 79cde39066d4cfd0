import asyncio
from collections.abc import AsyncGenerator

import orjson
import pytest
from redis.exceptions import ResponseError

from deployments.replica.attempts import Outcome
from pipeline.delta import Delta, DeltaKind, FinishReason
from pipeline.engine import TextRequest
from pipeline.errors import EngineDead, EngineError, PermanentEngineError
from pipeline.states import Status
from tests.unit.attempts_in_memory import away
from tests.unit.replicas import (
    ANSWER,
    CANARY,
    PROMPT,
    HandDriven,
    NewReplica,
    prompt,
    scripted,
    within,
)
from tests.waiting import until


async def test_an_attempt_logs_its_answer_and_completes_the_prompt(new_replica: NewReplica):
    replica = new_replica(scripted())
    assert await within(replica.run()) is Outcome.ENDED
    stored = replica.store.prompts["a"]
    assert stored.status is Status.COMPLETED
    assert stored.text == stored.message_text == ANSWER
    assert [entry.delta.kind for entry in stored.log].count(DeltaKind.END) == 1
    assert stored.log[-1].delta.kind is DeltaKind.END
    assert stored.log[-1].message_id.startswith("msg-")
    assert replica.runner.permits_used == 0
    assert replica.runner.leases() == []


async def test_the_answers_meta_counts_tokens(new_replica: NewReplica):
    replica = new_replica(scripted())
    await within(replica.run())
    assert orjson.loads(replica.store.prompts["a"].message_meta) == {
        "modelId": "m",
        "finishReason": "length",
        "promptTokens": len(PROMPT),
        "completionTokens": 40,
    }


async def test_the_end_waits_for_the_write_under_way_and_takes_what_is_unwritten_along(new_replica: NewReplica):
    engine = HandDriven()
    replica = new_replica(engine)
    replica.store.answering.clear()
    running = replica.run()
    engine.steps.put_nowait(Delta(text="one ", token_ids=(1,)))
    await replica.store.seen("append")
    engine.steps.put_nowait(Delta(text="two ", token_ids=(2,)))
    engine.steps.put_nowait(Delta(kind=DeltaKind.END, text="three", token_ids=(3,), finish_reason=FinishReason.STOP))
    await until(engine.steps.empty)
    assert "finish" not in replica.store.calls
    replica.store.answering.set()
    assert await within(running) is Outcome.ENDED
    stored = replica.store.prompts["a"]
    assert [entry.delta.text for entry in stored.log] == ["one ", "two three"]
    assert stored.log[-1].delta == Delta(
        kind=DeltaKind.END, text="two three", token_ids=(2, 3), finish_reason=FinishReason.STOP
    )
    assert stored.message_text == "one two three"


@pytest.mark.parametrize("cut", [1, 2, 7, 13, 20, 39])
async def test_an_attempt_goes_on_behind_what_is_logged(new_replica: NewReplica, cut: int):
    first = new_replica(scripted(hang_after_tokens=cut))
    running = first.run()
    left = first.store.prompts["a"]
    await until(lambda: sum(len(entry.delta.token_ids) for entry in left.log) >= cut)
    running.cancel()
    second = new_replica(scripted(), a=left)
    second.store.grant_again("a")
    left.holder = ""
    assert await within(second.run(fence=2)) is Outcome.ENDED
    assert left.text == left.message_text == ANSWER
    assert DeltaKind.RESTART not in {entry.delta.kind for entry in left.log}


async def test_a_log_of_another_model_is_declared_void(new_replica: NewReplica):
    stored = prompt(fingerprint="another model")
    stored.add(Delta(text="from another model", token_ids=(900, 901)))
    replica = new_replica(scripted(), a=stored)
    await within(replica.run())
    assert [entry.delta.kind for entry in stored.log][:2] == [DeltaKind.CONTENT, DeltaKind.RESTART]
    assert stored.text == stored.message_text == ANSWER


async def test_an_engine_that_starts_again_says_so_in_the_log(new_replica: NewReplica):
    engine = HandDriven()
    replica = new_replica(engine)
    for step in (
        Delta(text="wrong"),
        Delta(kind=DeltaKind.RESTART),
        Delta(text="right", token_ids=(1,)),
        Delta(kind=DeltaKind.END, finish_reason=FinishReason.STOP),
    ):
        engine.steps.put_nowait(step)
    await within(replica.run())
    stored = replica.store.prompts["a"]
    assert [entry.delta.kind for entry in stored.log] == [DeltaKind.CONTENT, DeltaKind.RESTART, DeltaKind.END]
    assert stored.message_text == stored.text == "right"


async def test_a_refused_append_stops_the_engine(new_replica: NewReplica):
    engine = HandDriven()
    replica = new_replica(engine)
    running = replica.run()
    await within(engine.started.wait())
    replica.store.cancel("a")
    engine.steps.put_nowait(Delta(text="too late"))
    assert await within(running) is Outcome.STALE
    assert engine.closed.is_set()
    assert replica.runner.permits_used == 0
    stored = replica.store.prompts["a"]
    assert stored.status is Status.CANCELED
    assert stored.text == ""


async def test_a_cancel_before_the_first_token_stops_the_engine_when_the_doorbell_rings(new_replica: NewReplica):
    engine = HandDriven()
    replica = new_replica(engine)
    running = replica.run()
    await within(engine.started.wait())
    replica.store.cancel("a")
    await replica.runner.look_again("a")
    assert await within(running) is Outcome.STALE
    assert engine.closed.is_set()


async def test_a_doorbell_that_rings_for_nothing_changes_nothing(new_replica: NewReplica):
    engine = HandDriven()
    replica = new_replica(engine)
    running = replica.run()
    await within(engine.started.wait())
    await replica.runner.look_again("a")
    await replica.runner.look_again("not here")
    engine.steps.put_nowait(Delta(kind=DeltaKind.END, text="fine", finish_reason=FinishReason.STOP))
    assert await within(running) is Outcome.ENDED


async def test_a_lease_that_the_heartbeat_lost_stops_the_engine(new_replica: NewReplica):
    engine = HandDriven()
    replica = new_replica(engine)
    running = replica.run()
    await within(engine.started.wait())
    replica.store.grant_again("a")
    replica.runner.lose("a", 0)  # an older attempt of the prompt: not this one
    replica.runner.lose("a", 1)
    assert await within(running) is Outcome.STALE
    assert engine.closed.is_set()
    assert replica.store.prompts["a"].status is Status.RUNNING  # the other replica's


async def test_a_late_end_of_an_old_attempt_changes_nothing(new_replica: NewReplica):
    engine = HandDriven()
    replica = new_replica(engine)
    running = replica.run()
    await within(engine.started.wait())
    replica.store.grant_again("a")
    engine.steps.put_nowait(Delta(kind=DeltaKind.END, text="late", finish_reason=FinishReason.STOP))
    assert await within(running) is Outcome.STALE
    stored = replica.store.prompts["a"]
    assert (stored.status, stored.message_text, stored.log) == (Status.RUNNING, None, [])


async def test_a_stale_claim_starts_nothing(new_replica: NewReplica):
    engine = HandDriven()
    replica = new_replica(engine)
    replica.store.cancel("a")
    assert await within(replica.run()) is Outcome.STALE
    assert not engine.started.is_set()
    assert replica.runner.permits_used == 0


async def test_a_full_replica_says_so_and_the_lease_goes_back_unburnt(new_replica: NewReplica):
    engine = HandDriven()
    replica = new_replica(engine, permits=1, a=prompt(), b=prompt())
    running = replica.run("a")
    await within(engine.started.wait())
    assert await within(replica.run("b")) is Outcome.FULL
    back = replica.store.prompts["b"]
    assert (back.status, back.runs, back.failures, back.crashes) == (Status.SCHEDULED, 0, 0, 0)
    engine.steps.put_nowait(Delta(kind=DeltaKind.END, finish_reason=FinishReason.STOP))
    assert await within(running) is Outcome.ENDED


async def test_a_full_replica_leaves_an_attempt_that_another_one_has_begun_alone(new_replica: NewReplica):
    engine = HandDriven()
    replica = new_replica(engine, permits=1, a=prompt(), b=prompt(holder="other"))
    running = replica.run("a")
    await within(engine.started.wait())
    assert await within(replica.run("b")) is Outcome.FULL
    assert (replica.store.prompts["b"].status, replica.store.prompts["b"].holder) == (Status.RUNNING, "other")
    engine.steps.put_nowait(Delta(kind=DeltaKind.END, finish_reason=FinishReason.STOP))
    assert await within(running) is Outcome.ENDED


async def test_a_suspect_runs_alone(new_replica: NewReplica):
    engine = HandDriven()
    replica = new_replica(engine, a=prompt(), suspect=prompt(), c=prompt())
    first = replica.run("a")
    await within(engine.started.wait())
    suspect = replica.run("suspect", alone=True)
    for _ in range(5):
        await asyncio.sleep(0)
    assert await within(replica.run("c")) is Outcome.FULL
    assert len(engine.requests) == 1
    for running in (first, suspect):
        engine.steps.put_nowait(Delta(kind=DeltaKind.END, finish_reason=FinishReason.STOP))
        assert await within(running) is Outcome.ENDED
    assert replica.runner.permits_used == 0


@pytest.mark.parametrize("end", ["refused", "error", "cancelled"])
async def test_a_suspect_that_loses_its_grant_as_the_replica_falls_idle_leaves_the_door_open(
    new_replica: NewReplica, monkeypatch: pytest.MonkeyPatch, end: str
):
    engine = HandDriven()
    replica = new_replica(engine, lease_s=0.03, a=prompt(), suspect=prompt(), c=prompt())
    first = replica.run("a")
    await within(engine.started.wait())

    async def idle_meanwhile(ref: str, fence: int, *, lease_s: float) -> bool:
        engine.steps.put_nowait(Delta(kind=DeltaKind.END, finish_reason=FinishReason.STOP))
        await within(first)
        await until(lambda: replica.runner.permits_used == 1)  # the suspect's
        if end == "error":
            raise ResponseError("WRONGTYPE")
        if end == "cancelled":
            raise asyncio.CancelledError
        return False

    monkeypatch.setattr(replica.store, "keep", idle_meanwhile)
    suspect = replica.run("suspect", alone=True)
    if end == "refused":
        assert await within(suspect) is Outcome.FULL
    else:
        with pytest.raises(ResponseError if end == "error" else asyncio.CancelledError):
            await suspect
    assert replica.runner.permits_used == 0
    engine.steps.put_nowait(Delta(kind=DeltaKind.END, finish_reason=FinishReason.STOP))
    assert await within(replica.run("c")) is Outcome.ENDED


async def test_the_attempt_outlives_the_call_that_asked_for_it(new_replica: NewReplica):
    engine = HandDriven()
    replica = new_replica(engine)
    running = replica.run()
    await within(engine.started.wait())
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert replica.runner.leases() == [("a", 1)]
    engine.steps.put_nowait(Delta(kind=DeltaKind.END, text="done", finish_reason=FinishReason.STOP))
    await replica.store.seen("finish")
    assert replica.store.prompts["a"].status is Status.COMPLETED


async def test_a_second_call_for_an_attempt_under_way_joins_it(new_replica: NewReplica):
    engine = HandDriven()
    replica = new_replica(engine, permits=1)
    calls = [replica.run(), replica.run()]
    await within(engine.started.wait())
    calls.append(replica.run())
    for words in ("one ", "two "):
        engine.steps.put_nowait(Delta(text=words, token_ids=(1,)))
    engine.steps.put_nowait(Delta(kind=DeltaKind.END, text="three", finish_reason=FinishReason.STOP))
    assert await within(asyncio.gather(*calls)) == [Outcome.ENDED] * 3
    assert len(engine.requests) == 1
    stored = replica.store.prompts["a"]
    assert (stored.status, stored.text, stored.message_text) == (Status.COMPLETED, "one two three", "one two three")
    assert "hand_back" not in replica.store.calls
    assert replica.runner.permits_used == 0


async def test_the_second_call_outlives_the_first(new_replica: NewReplica):
    engine = HandDriven()
    replica = new_replica(engine)
    first, second = replica.run(), replica.run()
    await within(engine.started.wait())
    first.cancel()
    engine.steps.put_nowait(Delta(kind=DeltaKind.END, finish_reason=FinishReason.STOP))
    assert await within(second) is Outcome.ENDED
    assert first.cancelled()


async def test_a_second_call_for_an_attempt_that_waits_to_run_alone_joins_it(new_replica: NewReplica):
    engine = HandDriven()
    replica = new_replica(engine, a=prompt(), suspect=prompt())
    other = replica.run("a")
    await within(engine.started.wait())
    calls = [replica.run("suspect", alone=True), replica.run("suspect", alone=True)]
    for _ in range(5):
        await asyncio.sleep(0)
    for running in (other, asyncio.gather(*calls)):
        engine.steps.put_nowait(Delta(kind=DeltaKind.END, finish_reason=FinishReason.STOP))
        await within(running)
    assert [call.result() for call in calls] == [Outcome.ENDED] * 2
    assert len(engine.requests) == 2
    assert replica.runner.permits_used == 0


async def test_a_second_call_for_an_attempt_that_has_ended_starts_nothing(new_replica: NewReplica):
    engine = HandDriven()
    replica = new_replica(engine)
    engine.steps.put_nowait(EngineError("once"))
    assert await within(replica.run()) is Outcome.ENDED
    assert await within(replica.run()) is Outcome.STALE
    assert len(engine.requests) == 1
    assert replica.store.prompts["a"].failures == 1


async def test_a_later_attempt_at_a_prompt_stops_an_earlier_one_of_the_same_replica(new_replica: NewReplica):
    engine = HandDriven()
    replica = new_replica(engine)
    first = replica.run()
    await within(engine.started.wait())
    replica.store.grant_again("a")
    replica.store.prompts["a"].holder = ""
    second = replica.run(fence=2)
    assert await within(first) is Outcome.STALE
    assert replica.runner.leases() == [("a", 2)]
    engine.steps.put_nowait(Delta(kind=DeltaKind.END, finish_reason=FinishReason.STOP))
    assert await within(second) is Outcome.ENDED


@pytest.mark.parametrize(("failures", "delay_s"), [(0, 2), (1, 4), (2, 8), (3, 16)])
async def test_a_failed_attempt_is_due_again_later(new_replica: NewReplica, failures: int, delay_s: float):
    replica = new_replica(scripted(fail_first=1), a=prompt(failures=failures))
    assert await within(replica.run()) is Outcome.ENDED
    stored = replica.store.prompts["a"]
    assert (stored.status, stored.delay_s, stored.error) == (Status.ERRORED, delay_s, "scripted failure")
    assert stored.failures == failures + 1


@pytest.mark.parametrize(("failures", "max_retries"), [(4, 4), (0, 0)])
async def test_after_the_last_retry_the_prompt_is_abandoned(new_replica: NewReplica, failures: int, max_retries: int):
    replica = new_replica(scripted(fail_first=1), a=prompt(failures=failures, max_retries=max_retries))
    assert await within(replica.run()) is Outcome.ENDED
    stored = replica.store.prompts["a"]
    assert (stored.status, stored.error) == (Status.ABANDONED, "scripted failure")
    assert stored.log[-1].delta.finish_reason is FinishReason.ERROR


async def test_a_permanent_fault_is_not_retried(new_replica: NewReplica):
    engine = HandDriven()
    replica = new_replica(engine)
    engine.steps.put_nowait(PermanentEngineError("too long for the context"))
    await within(replica.run())
    stored = replica.store.prompts["a"]
    assert (stored.status, stored.error) == (Status.ABANDONED, "too long for the context")


async def test_an_unexpected_error_is_kept_without_its_text(new_replica: NewReplica, caplog: pytest.LogCaptureFixture):
    engine = HandDriven()
    replica = new_replica(engine)
    engine.steps.put_nowait(ValueError(f"cannot encode {CANARY}"))
    await within(replica.run())
    stored = replica.store.prompts["a"]
    assert (stored.status, stored.error) == (Status.ERRORED, "internal error (ValueError)")
    assert CANARY not in caplog.text


async def test_an_engine_that_stops_without_an_end_has_failed(new_replica: NewReplica):
    class Silent(HandDriven):
        async def generate(self, request: TextRequest) -> AsyncGenerator[Delta, None]:
            yield Delta(text="and then")

    replica = new_replica(Silent())
    await within(replica.run())
    assert replica.store.prompts["a"].status is Status.ERRORED
    assert replica.store.prompts["a"].error == "the engine ended the answer without saying so"


async def test_a_dead_engine_loses_every_lease_and_ends_the_replica_once(new_replica: NewReplica):
    prompts = {name: prompt() for name in "abcd"}
    replica = new_replica(scripted(step_s=0.001, lose_engine_after_tokens=5), **prompts)
    outcomes = await within(asyncio.gather(*(replica.run(name) for name in prompts)))
    assert set(outcomes) == {Outcome.STALE}
    assert {(p.status, p.crashes, p.failures) for p in prompts.values()} == {(Status.SCHEDULED, 1, 0)}
    assert replica.deaths == ["dead"]
    assert replica.runner.permits_used == 0


async def test_a_replica_whose_engine_is_dead_takes_no_more(new_replica: NewReplica):
    engine = HandDriven()
    replica = new_replica(engine, a=prompt(), b=prompt(), c=prompt())
    running = [replica.run("a"), replica.run("b")]
    await until(lambda: len(engine.requests) == 2)
    engine.steps.put_nowait(EngineDead())
    await until(lambda: replica.runner.permits_used == 1)
    assert replica.runner.permits.offered == 1  # what still dies
    assert await within(replica.run("c")) is Outcome.FULL
    late = replica.store.prompts["c"]
    assert (late.status, late.runs, late.crashes) == (Status.SCHEDULED, 0, 0)
    engine.steps.put_nowait(EngineDead())
    await within(asyncio.gather(*running))
    assert replica.deaths == ["dead"]


async def test_a_store_that_is_away_stops_nothing(new_replica: NewReplica):
    replica = new_replica(scripted())
    replica.store.failing = [away() for _ in range(5)]
    assert await within(replica.run()) is Outcome.ENDED
    assert replica.store.prompts["a"].message_text == replica.store.prompts["a"].text == ANSWER


async def test_a_replica_that_stops_hands_its_prompts_back_uncharged(new_replica: NewReplica):
    engine = HandDriven()
    replica = new_replica(engine, a=prompt(), b=prompt())
    running = [replica.run("a"), replica.run("b")]
    await until(lambda: len(engine.requests) == 2)
    await replica.runner.hand_back_all()
    assert set(await within(asyncio.gather(*running))) == {Outcome.STALE}
    assert {(p.status, p.runs, p.crashes) for p in replica.store.prompts.values()} == {(Status.SCHEDULED, 0, 0)}


async def test_request_ids_are_unique_per_attempt_and_hold_no_prompt(new_replica: NewReplica):
    engine = HandDriven()
    replica = new_replica(engine, a=prompt(), b=prompt())
    for name in "ab":
        engine.steps.put_nowait(EngineError())
        await within(replica.run(name))
    ids = {request.request_id for request in engine.requests}
    assert len(ids) == 2
    assert all(request_id.startswith("att-") for request_id in ids)
