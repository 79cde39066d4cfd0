"""The chaos checker on hand-made histories: a good one passes, and each way of going bad is named."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from tests.chaos.checker import Expectations, Finals, Rule, Violation, check
from tests.chaos.dump import Dump, StoredEntry, StoredPrompt, StoredQueue
from tests.chaos.history import Asked, Connection, Event, Fault, History, Kind, Operation, Outcome, Recovery

USER, THREAD = "u1", "t1"
FAULT = Fault(kind="router", victim="1", at=10.0, hit=("u1/one",), lethal=False)
QUEUE = StoredQueue(waiting=0, queued=0, blocked=0, due=0, leases=0, turns=0, permits_used={"r1": 0}, stale_rejected=0)


class Case:
    """Two prompts of one thread, one completed and one cancelled, seen by two readers, with a fault in between. Each test
    spoils something."""

    def __init__(self) -> None:
        self.history = History(seed=1)
        self.prompts: dict[str, StoredPrompt] = {}
        self.queue = QUEUE
        self.open_threads: dict[str, int] = {}
        self.answers = {"one": "ab"}
        self.stale = 0
        self.expected = Expectations()
        self._ask("one", "canary-000000000001", "ab")
        self._ask("two", "canary-000000000002", "xyz")
        self.prompts["one"] = self._stored(
            "one", 1, "completed", [_entry(1, "a"), _entry(2, "b", kind="end", reason="stop", message="msg-1")], "ab"
        )
        self.prompts["two"] = self._stored(
            "two", 2, "canceled", [_entry(1, "x"), _entry(2, kind="end", reason="canceled")], None
        )
        for reader, start in (("early", "0-0"), ("late", "")):
            self.history.connections.append(
                Connection(reader=reader, user=USER, thread=THREAD, resumed_from=start, opened=9.0)
            )
            self.event(reader, "1-1", {"promptId": "one", "type": "progress", "text": "a"})
            self.event(reader, "1-2", {"promptId": "one", "type": "done", "messageId": "msg-1", "text": "b"})
            self.event(reader, "2-1", {"promptId": "two", "type": "progress", "text": "x"})
            self.event(reader, "2-2", {"promptId": "two", "type": "canceled"})
        for kind, prompt in (
            (Kind.SUBMIT, "one"),
            (Kind.SUBMIT, "two"),
            (Kind.CANCEL, "two"),
            (Kind.LIST, ""),
            (Kind.GET, "one"),
            (Kind.SUBSCRIBE, ""),
        ):
            self.operation(kind, prompt, entries=2 if kind is Kind.CANCEL else None)
        self.history.faults.append(FAULT)
        self.history.recoveries.append(Recovery(what="u1/one", seconds=0.5))
        self.history.sightings.add((USER, "canary-000000000001"))

    def check(self) -> list[Violation]:
        return check(
            self.history,
            Dump(prompts=self.prompts, queue=self.queue, open_threads=self.open_threads),
            Finals(answers=self.answers, stale_rejected=self.stale),
            self.expected,
        )

    def rules(self) -> set[str]:
        return {violation.rule for violation in self.check()}

    def event(self, reader: str, event_id: str, data: dict[str, Any]) -> None:
        self.history.events.append(
            Event(reader=reader, user=USER, thread=THREAD, id=event_id, data=json.dumps(data).encode(), at=11.0)
        )

    def operation(self, kind: Kind, prompt: str = "", *, at: float = 10.1, **changes: Any) -> None:
        operation = Operation(
            kind=kind, user=USER, prompt=prompt, began=at, ended=at + 0.1, outcome=Outcome.OK, status=200
        )
        self.history.operations.append(replace(operation, **changes))

    def change(self, prompt: str, **changes: Any) -> None:
        self.prompts[prompt] = replace(self.prompts[prompt], **changes)

    def drop_events(self, reader: str, *event_ids: str) -> None:
        self.history.events = [e for e in self.history.events if e.reader != reader or e.id not in event_ids]

    def _ask(self, prompt_id: str, canary: str, expected: str) -> None:
        self.history.asked[prompt_id] = Asked(
            id=prompt_id,
            user=USER,
            thread=THREAD,
            text=f"{canary} text",
            canary=canary,
            max_retries=4,
            expected=expected,
            body={},
        )

    def _stored(
        self, prompt_id: str, place: int, status: str, log: list[StoredEntry], answer: str | None
    ) -> StoredPrompt:
        return StoredPrompt(
            id=prompt_id,
            user=USER,
            thread=THREAD,
            place=place,
            status=status,
            text=self.history.asked[prompt_id].text,
            runs=1,
            failures=0,
            crashes=0,
            fence=1,
            entries=len(log),
            log=tuple(log),
            answer=answer,
            indexed=(status,),
        )


def _entry(number: int, text: str = "", *, kind: str = "content", reason: str = "", message: str = "") -> StoredEntry:
    return StoredEntry(number=number, kind=kind, text=text, reason=reason, message=message)


def test_a_good_history_passes() -> None:
    assert Case().check() == []


def test_an_acknowledged_prompt_that_is_not_stored_is_lost() -> None:
    case = Case()
    del case.prompts["one"]
    assert Rule.LOST in case.rules()


def test_an_unknown_submission_may_be_absent() -> None:
    case = Case()
    case._ask("three", "canary-000000000003", "z")
    case.operation(Kind.SUBMIT, "three", at=9.9, outcome=Outcome.INFO, status=0)
    case.expected = Expectations(doors_open_after_s=5)
    assert case.check() == []


def test_a_removed_prompt_may_be_absent() -> None:
    case = Case()
    del case.prompts["two"]
    assert case.check() == []


def test_a_prompt_without_an_end_is_named() -> None:
    case = Case()
    case.change("one", status="running", indexed=("running",))
    assert Rule.TERMINAL in case.rules()


def test_two_end_entries_are_named() -> None:
    case = Case()
    log = (*case.prompts["one"].log, _entry(3, kind="end", reason="stop"))
    case.change("one", log=log, entries=3)
    assert Rule.TERMINAL in case.rules()


def test_an_entry_behind_the_end_is_named() -> None:
    case = Case()
    log = (*case.prompts["two"].log, _entry(3, "late"))
    case.change("two", log=log, entries=3)
    assert Rule.TERMINAL in case.rules()


def test_a_status_that_two_indexes_hold_is_named() -> None:
    case = Case()
    case.change("one", indexed=("running", "completed"))
    assert Rule.TERMINAL in case.rules()


def test_an_abandoned_prompt_is_named() -> None:
    case = Case()
    case.change("one", status="abandoned", indexed=("abandoned",))
    assert Rule.TERMINAL in case.rules()


def test_what_goes_on_after_an_acknowledged_cancel_is_named() -> None:
    case = Case()
    log = (_entry(1, "x"), _entry(2, "y"), _entry(3, "z"), _entry(4, kind="end", reason="canceled"))
    case.change("two", log=log, entries=4)
    assert Rule.AFTER_CANCEL in case.rules()


def test_a_cancelled_prompt_that_completes_is_named() -> None:
    case = Case()
    case.change("two", status="completed", indexed=("completed",), answer="xyz")
    assert Rule.AFTER_CANCEL in case.rules()


def test_a_log_that_differs_from_the_answer_is_named() -> None:
    case = Case()
    case.change("one", log=(_entry(1, "aa"), _entry(2, "b", kind="end", reason="stop", message="msg-1")))
    assert Rule.TEXT in case.rules()


def test_an_answer_that_is_not_the_right_one_is_named() -> None:
    case = Case()
    case.history.asked["one"] = replace(case.history.asked["one"], expected="ac")
    (violation, *_) = [v for v in case.check() if v.rule == Rule.TEXT]
    assert "character 1" in violation.evidence


def test_what_came_before_a_restart_does_not_count() -> None:
    case = Case()
    log = (
        _entry(1, "junk"),
        _entry(2, kind="restart"),
        _entry(3, "a"),
        _entry(4, "b", kind="end", reason="stop", message="m"),
    )
    case.change("one", log=log, entries=4)
    assert Rule.TEXT not in case.rules()


def test_a_sync_answer_that_differs_is_named() -> None:
    case = Case()
    case.operation(Kind.SUBMIT_SYNC, "one", answer="a")
    assert case.rules() == {Rule.TEXT}


def test_a_gap_in_a_stream_is_named() -> None:
    case = Case()
    case.drop_events("early", "1-2")
    assert case.rules() == {Rule.STREAM}


def test_a_stream_that_ends_too_soon_is_named() -> None:
    case = Case()
    case.drop_events("late", "2-2")
    assert case.rules() == {Rule.STREAM}


def test_a_repeated_event_is_named() -> None:
    case = Case()
    case.history.events.insert(1, case.history.events[0])
    assert Rule.STREAM in case.rules()


def test_a_second_end_is_named() -> None:
    case = Case()
    case.event("early", "2-3", {"promptId": "two", "type": "done", "messageId": "m"})
    assert Rule.DONE_ONCE in case.rules()


def test_readers_that_see_different_bytes_are_named() -> None:
    case = Case()
    first = case.history.events[0]
    case.history.events[0] = replace(first, data=first.data.replace(b'"a"', b'"q"'))
    assert Rule.STREAM in case.rules()


def test_a_late_reader_may_begin_at_any_answer_but_not_within_one() -> None:
    case = Case()
    case.drop_events("late", "1-1", "1-2")
    assert case.check() == []
    case.drop_events("late", "2-1")
    assert case.rules() == {Rule.STREAM}


def test_too_many_crashes_are_named() -> None:
    case = Case()
    case.change("one", crashes=1, runs=2)
    assert case.rules() == {Rule.ATTEMPTS}
    case.history.faults[0] = replace(FAULT, lethal=True)
    assert case.check() == []


def test_runs_that_nothing_explains_are_named() -> None:
    case = Case()
    case.change("one", runs=2)
    assert case.rules() == {Rule.ATTEMPTS}


def test_leaks_are_named() -> None:
    case = Case()
    case.queue = replace(QUEUE, leases=1, waiting=2, blocked=4, due=3, permits_used={"r1": 1})
    case.open_threads = {"u1/t1": 1}
    leaks = {violation.subject for violation in case.check() if violation.rule == Rule.LEAK}
    assert leaks == {"leases", "waiting (counter)", "blocked", "due", "permits in use of r1", "open prompts of u1/t1"}


def test_a_door_that_never_opened_after_a_fault_is_named() -> None:
    case = Case()
    case.history.operations = [o for o in case.history.operations if o.kind is not Kind.LIST]
    assert case.rules() == {Rule.AVAILABLE}


def test_a_failed_call_is_named_unless_the_fault_excuses_it() -> None:
    case = Case()
    case.operation(Kind.LIST, outcome=Outcome.INFO, status=500, at=12.0)
    assert case.rules() == {Rule.AVAILABLE}
    case.expected = Expectations(doors_open_after_s=5)
    assert case.check() == []
    case.operation(Kind.LIST, outcome=Outcome.INFO, status=500, at=16.0)
    assert case.rules() == {Rule.AVAILABLE}


def test_a_call_that_hangs_is_named() -> None:
    case = Case()
    case.operation(Kind.LIST, ended=20.0)
    assert case.rules() == {Rule.AVAILABLE}


def test_a_503_must_say_when_to_come_back() -> None:
    case = Case()
    case.expected = Expectations(doors_open_after_s=5)
    case.operation(Kind.LIST, outcome=Outcome.INFO, status=503, retry_after=True)
    assert case.check() == []
    case.operation(Kind.LIST, outcome=Outcome.INFO, status=503)
    assert case.rules() == {Rule.TRUTHFUL}


def test_a_slow_recovery_is_named() -> None:
    case = Case()
    case.history.recoveries.append(Recovery(what="u1/one", seconds=20))
    assert case.rules() == {Rule.SLOW}


def test_a_fence_that_was_never_needed_is_named() -> None:
    case = Case()
    case.expected = Expectations(least_stale=1)
    assert case.rules() == {Rule.STALE}
    case.stale = 3
    assert case.check() == []


def test_a_canary_of_another_user_is_named() -> None:
    case = Case()
    case.history.sightings.add(("u2", "canary-000000000001"))
    assert case.rules() == {Rule.ISOLATED}


def test_an_event_of_another_thread_is_named() -> None:
    case = Case()
    case.history.asked["two"] = replace(case.history.asked["two"], thread="t2")
    assert Rule.ISOLATED in case.rules()
