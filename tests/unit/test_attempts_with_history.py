"""Attempts at prompts of a conversation: rendered when their turn has come, once."""

from __future__ import annotations

import orjson

from deployments.replica.attempts import Outcome
from pipeline.delta import Delta, DeltaKind, FinishReason
from pipeline.store.attempts import HistoryWanted
from tests.unit.attempts_in_memory import away
from tests.unit.replicas import ANSWER, GREEDY, PROMPT, HandDriven, NewReplica, prompt, scripted, within

WANTED = HistoryWanted(user_id="usr", thread_id="thr", place=3, prompt="And then?")


class FixedHistory:
    """Renders every prompt to the same ids, or to none; first raises what it is given."""

    def __init__(self, token_ids: tuple[int, ...] | None, *failing: Exception) -> None:
        self.token_ids = token_ids
        self.failing = list(failing)
        self.asked: list[tuple[HistoryWanted, int]] = []

    async def render(self, wanted: HistoryWanted, max_tokens: int) -> tuple[int, ...] | None:
        self.asked.append((wanted, max_tokens))
        if self.failing:
            raise self.failing.pop(0)
        return self.token_ids


async def test_a_prompt_of_a_conversation_is_kept_with_its_history_before_anything_comes_of_it(new_replica: NewReplica):
    engine, history = HandDriven(), FixedHistory((5, 6, 7))
    replica = new_replica(engine, histories=history, a=prompt(history=WANTED))
    running = replica.run()
    await within(engine.started.wait())
    assert history.asked == [(WANTED, GREEDY.max_tokens)]
    assert replica.store.calls == ["claim", "keep_rendered"]
    assert replica.store.prompts["a"].prompt_token_ids == engine.requests[0].prompt_token_ids == (5, 6, 7)
    engine.steps.put_nowait(Delta(kind=DeltaKind.END, text="x", finish_reason=FinishReason.STOP))
    assert await within(running) is Outcome.ENDED
    assert orjson.loads(replica.store.prompts["a"].message_meta)["promptTokens"] == 3


async def test_whoever_resumes_it_takes_the_same_ids(new_replica: NewReplica):
    engine, history = HandDriven(), FixedHistory((5, 6, 7))
    replica = new_replica(engine, histories=history, a=prompt(history=WANTED))
    running = replica.run()
    engine.steps.put_nowait(Delta(text="be", token_ids=(1,)))
    await replica.store.seen("append")
    replica.store.grant_again("a")
    replica.runner.lose("a", 1)
    assert await within(running) is Outcome.STALE
    replica.store.prompts["a"].holder = ""
    engine.steps.put_nowait(Delta(kind=DeltaKind.END, text="gun", finish_reason=FinishReason.STOP))
    assert await within(replica.run(fence=2)) is Outcome.ENDED
    assert engine.requests[1].prompt_token_ids == (5, 6, 7)
    assert engine.requests[1].logged_token_ids == (1,)
    assert replica.store.prompts["a"].message_text == "begun"
    assert len(history.asked) == 1


async def test_without_anything_said_before_the_prompt_stands_alone(new_replica: NewReplica):
    replica = new_replica(scripted(), histories=FixedHistory(None), a=prompt(history=WANTED))
    assert await within(replica.run()) is Outcome.ENDED
    assert replica.store.prompts["a"].message_text == ANSWER


async def test_history_waits_for_a_store_that_is_away(new_replica: NewReplica):
    history = FixedHistory((5, 6, 7), away(), away())
    replica = new_replica(scripted(), histories=history, a=prompt(history=WANTED))
    assert await within(replica.run()) is Outcome.ENDED
    assert len(history.asked) == 3


async def test_an_attempt_superseded_while_it_rendered_generates_nothing(new_replica: NewReplica):
    engine = HandDriven()

    class Slow(FixedHistory):
        async def render(self, wanted: HistoryWanted, max_tokens: int) -> tuple[int, ...] | None:
            replica.store.grant_again("a")
            return await super().render(wanted, max_tokens)

    replica = new_replica(engine, histories=Slow((5, 6, 7)), a=prompt(history=WANTED))
    assert await within(replica.run()) is Outcome.STALE
    assert engine.requests == []
    assert replica.store.prompts["a"].prompt_token_ids == PROMPT
