"""Checks a recorded history and a dump of the store after the drain against DESIGN §4 and RELIABILITY §1.5. Pure: no I/O, no
clock. What is wrong comes back as a list with its evidence; an empty list means that everything held."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.chaos.dump import TERMINAL, Dump, StoredPrompt
from tests.chaos.history import Event, Fault, History, Kind, Operation, Outcome

#: A replica may die so often under one prompt, the last time when it runs alone (DESIGN §3).
MOST_CRASHES = 3
#: A streamed end and the status it stands for.
_ENDS = {"done": "completed", "canceled": "canceled", "error": "abandoned"}


class Rule:
    """Names of what can be violated."""

    LOST = "D1 lost"
    TERMINAL = "D1 one terminal state"
    AFTER_CANCEL = "D1 nothing runs on after cancel"
    DONE_ONCE = "D2 at most one done"
    TEXT = "D2 text"
    STREAM = "R4 stream"
    STALE = "D3 stale writes"
    AVAILABLE = "D4 available"
    ISOLATED = "D5 isolation"
    LEAK = "D6 leak"
    ATTEMPTS = "R6 bounded attempts"
    HALF = "R1 never half"
    TRUTHFUL = "R9 truthful status"
    SLOW = "R13 time"


@dataclass(frozen=True, kw_only=True, slots=True)
class Violation:
    rule: str
    #: What it is about: a prompt, a reader, a part of the queue.
    subject: str
    evidence: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.subject}: {self.evidence}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Expectations:
    """What a fault may cost, seconds."""

    #: From here on, counted from the fault, every call must succeed. None: calls may fail at no time (D4).
    doors_open_after_s: float | None = None
    #: Whether that is checked at all: the probes ran.
    probed: bool = True
    #: A call answers within this time, whatever it answers.
    call_s: float = 5.0
    #: The prompts it hit move on within this time: lease + heartbeat + sweep (RELIABILITY §1.5, R13).
    recovery_s: float = 14.0
    #: Refused writes of superseded attempts there must have been: 0 proves nothing about the fence.
    least_stale: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Finals:
    """What the service itself says after the drain."""

    #: Answer of each prompt, as a repeated sync submission returns it.
    answers: dict[str, str]
    #: Refused stale writes during this run.
    stale_rejected: int


def check(history: History, dump: Dump, finals: Finals, expected: Expectations) -> list[Violation]:
    """Every violation found."""
    return [
        *_lost(history, dump),
        *_terminal(history, dump),
        *_after_cancel(history, dump),
        *_texts(history, dump, finals),
        *_streams(history, dump),
        *_attempts(history, dump),
        *_isolation(history),
        *_leaks(dump),
        *_doors(history, expected),
        *_times(history, expected),
        *_stale(history, finals, expected),
    ]


def removed(history: History) -> set[str]:
    """Ids that a client has, or may have, removed. Removing a finished prompt erases it."""
    return {o.prompt for o in history.operations if o.kind is Kind.CANCEL and o.outcome is not Outcome.FAIL}


def _lost(history: History, dump: Dump) -> Iterator[Violation]:
    gone = removed(history)
    for prompt_id in sorted(history.submitted()):
        stored = dump.prompts.get(prompt_id)
        if stored is None:
            if prompt_id in history.acknowledged() and prompt_id not in gone:
                yield Violation(rule=Rule.LOST, subject=prompt_id, evidence="acknowledged, and not in the store")
        elif stored.text != history.asked[prompt_id].text:
            yield Violation(rule=Rule.HALF, subject=prompt_id, evidence="stored with another text")
    for operation in history.operations:
        if operation.kind is Kind.GET and operation.detail == "another prompt was listed":
            yield Violation(rule=Rule.TRUTHFUL, subject=operation.prompt, evidence=operation.detail)


def _terminal(history: History, dump: Dump) -> Iterator[Violation]:
    gone = removed(history)
    for prompt in dump.prompts.values():
        if prompt.status not in TERMINAL:
            yield Violation(
                rule=Rule.TERMINAL,
                subject=prompt.id,
                evidence=f"{prompt.status} after the drain, attempt {prompt.fence}",
            )
        if prompt.indexed != (prompt.status,):
            yield Violation(
                rule=Rule.TERMINAL, subject=prompt.id, evidence=f"{prompt.status}, but listed as {prompt.indexed}"
            )
        if prompt.status == "canceled" and prompt.id not in gone:
            yield Violation(rule=Rule.TERMINAL, subject=prompt.id, evidence="canceled, and nobody asked for it")
        if prompt.status == "abandoned":
            yield Violation(
                rule=Rule.TERMINAL,
                subject=prompt.id,
                evidence=f"abandoned after {prompt.failures} failures and {prompt.crashes} crashes",
            )
        ends = [entry.number for entry in prompt.log if entry.kind == "end"]
        if prompt.status in TERMINAL and (len(ends) != 1 or prompt.log[-1].kind != "end"):
            yield Violation(
                rule=Rule.TERMINAL,
                subject=prompt.id,
                evidence=f"{prompt.status}, with end entries {ends} in a log of {len(prompt.log)}",
            )
        numbers = [entry.number for entry in prompt.log]
        if numbers != list(range(1, prompt.entries + 1)):
            yield Violation(
                rule=Rule.STREAM, subject=prompt.id, evidence=f"log entries {_gaps(numbers)}, counted {prompt.entries}"
            )


def _after_cancel(history: History, dump: Dump) -> Iterator[Violation]:
    for operation in history.operations:
        prompt = dump.prompts.get(operation.prompt)
        if operation.kind is not Kind.CANCEL or operation.outcome is not Outcome.OK or prompt is None:
            continue
        # One that was acknowledged found the prompt (else 404) and either ended or erased it.
        if prompt.status != "canceled":
            yield Violation(
                rule=Rule.AFTER_CANCEL, subject=prompt.id, evidence=f"cancel acknowledged, and it is {prompt.status}"
            )
        elif operation.entries is not None and prompt.entries > operation.entries + 1:
            yield Violation(
                rule=Rule.AFTER_CANCEL,
                subject=prompt.id,
                evidence=f"{operation.entries} log entries when cancel was acknowledged, {prompt.entries} in the end",
            )


def _texts(history: History, dump: Dump, finals: Finals) -> Iterator[Violation]:
    """Log, stored answer, every door's answer and the known right answer are one text."""
    for prompt in dump.prompts.values():
        asked = history.asked[prompt.id]
        logged = _logged_text(prompt)
        if prompt.status == "completed":
            right = prompt.answer if asked.expected is None else asked.expected
            told = {
                "log": logged,
                "stored answer": prompt.answer,
                "answer of the service": finals.answers.get(prompt.id),
                **{
                    f"answer of the call at {o.ended:.3f}": o.answer
                    for o in history.operations
                    if o.prompt == prompt.id and o.kind is Kind.SUBMIT_SYNC and o.answer is not None
                },
            }
            for where, text in told.items():
                if text != right:
                    yield Violation(rule=Rule.TEXT, subject=prompt.id, evidence=f"{where}: {difference(text, right)}")
        elif asked.expected is not None and not asked.expected.startswith(logged):
            yield Violation(
                rule=Rule.TEXT, subject=prompt.id, evidence=f"{prompt.status}: {difference(logged, asked.expected)}"
            )


def _logged_text(prompt: StoredPrompt) -> str:
    text = ""
    for entry in prompt.log:
        text = "" if entry.kind == "restart" else text + entry.text
    return text


def _streams(history: History, dump: Dump) -> Iterator[Violation]:
    by_reader: dict[str, list[Event]] = defaultdict(list)
    for event in history.events:
        by_reader[event.reader].append(event)
    first_cursor = {c.reader: c.resumed_from for c in reversed(history.connections)}
    threads: dict[str, list[tuple[str, dict[str, object]]]] = {}
    seen: dict[tuple[str, str], Event] = {}
    for event in history.events:
        other = seen.setdefault((event.thread, event.id), event)
        if other.data != event.data:
            yield Violation(
                rule=Rule.STREAM,
                subject=f"{event.thread} {event.id}",
                evidence=f"{other.reader} and {event.reader} were sent different bytes",
            )
    erased = removed(history) - dump.prompts.keys()
    for reader, resumed_from in sorted(first_cursor.items()):
        events = by_reader[reader]
        thread = next(c.thread for c in history.connections if c.reader == reader)
        if thread not in threads:
            threads[thread] = _expected_events(thread, dump)
        yield from _reader(reader, events, threads[thread], erased, from_beginning=resumed_from == "0-0")


def _reader(
    reader: str,
    events: Sequence[Event],
    expected: list[tuple[str, dict[str, object]]],
    erased: set[str],
    *,
    from_beginning: bool,
) -> Iterator[Violation]:
    positions = [tuple(map(int, event.id.split("-"))) for event in events]
    for before, after, event in zip(positions, positions[1:], events[1:], strict=False):
        if before >= after:
            yield Violation(rule=Rule.STREAM, subject=reader, evidence=f"{event.id} came after {before}")
    decoded = [(event.id, json.loads(event.data)) for event in events]
    done = Counter(data["promptId"] for _, data in decoded if data["type"] in _ENDS)
    for prompt_id, count in done.items():
        if count > 1:
            yield Violation(rule=Rule.DONE_ONCE, subject=prompt_id, evidence=f"{reader} saw {count} ends")
    # Of what is erased the store says nothing any more; the order of its ids was checked above.
    kept = [(event_id, data) for event_id, data in decoded if data["promptId"] not in erased]
    start = 0
    if not from_beginning and kept:
        ids = [event_id for event_id, _ in expected]
        if kept[0][0] not in ids:
            yield Violation(rule=Rule.STREAM, subject=reader, evidence=f"{kept[0]} is not in the log")
            return
        start = ids.index(kept[0][0])
        if start and ids[start].split("-")[0] == ids[start - 1].split("-")[0]:
            yield Violation(rule=Rule.STREAM, subject=reader, evidence=f"began in mid-answer, at {kept[0][0]}")
    if not from_beginning and not kept:
        return  # Nothing was unfinished when it came, and nothing came after.
    for right, got in zip(expected[start:], kept, strict=False):
        if right != got:
            yield Violation(rule=Rule.STREAM, subject=reader, evidence=f"got {got}, the log has {right}")
            return
    if len(kept) != len(expected) - start:
        yield Violation(
            rule=Rule.STREAM, subject=reader, evidence=f"{len(kept)} of {len(expected) - start} events arrived"
        )


def _expected_events(thread: str, dump: Dump) -> list[tuple[str, dict[str, object]]]:
    """The thread's events by the logs of its prompts, one prompt after another in the order of submission."""
    prompts = sorted((p for p in dump.prompts.values() if p.thread == thread), key=lambda p: p.place)
    events: list[tuple[str, dict[str, object]]] = []
    for prompt in prompts:
        for entry in prompt.log:
            data: dict[str, object] = {"promptId": prompt.id}
            if entry.kind == "content" and entry.text:
                data |= {"type": "progress", "text": entry.text}
            elif entry.kind == "restart":
                data |= {"type": "restart"}
            elif entry.kind != "end":
                continue
            elif entry.reason == "canceled":
                data |= {"type": "canceled"}
            elif entry.reason == "error":
                data |= {"type": "error", "text": entry.error}
            else:
                data |= {"type": "done", "messageId": entry.message, **({"text": entry.text} if entry.text else {})}
            events.append((f"{prompt.place}-{entry.number}", data))
    return events


def _attempts(history: History, dump: Dump) -> Iterator[Violation]:
    lethal = sum(1 for fault in history.faults if fault.lethal)
    for prompt in dump.prompts.values():
        limits = {
            "failures": (prompt.failures, history.asked[prompt.id].max_retries + 1),
            "crashes": (prompt.crashes, min(MOST_CRASHES, lethal)),
            # Hand-backs are not charged.
            "runs": (prompt.runs, prompt.failures + prompt.crashes + 1),
        }
        for what, (count, most) in limits.items():
            if count > most:
                yield Violation(rule=Rule.ATTEMPTS, subject=prompt.id, evidence=f"{count} {what}, allowed are {most}")


def _isolation(history: History) -> Iterator[Violation]:
    owner = {asked.canary: asked.user for asked in history.asked.values()}
    for user, canary in sorted(history.sightings):
        if owner.get(canary, user) != user:
            yield Violation(rule=Rule.ISOLATED, subject=user, evidence=f"received {canary} of {owner[canary]}")
    for event in history.events:
        asked = history.asked.get(json.loads(event.data)["promptId"])
        if asked is None or asked.user != event.user or asked.thread != event.thread:
            yield Violation(rule=Rule.ISOLATED, subject=event.reader, evidence=f"{event.id} is of another thread")


def _leaks(dump: Dump) -> Iterator[Violation]:
    queue = dump.queue
    for what, count in (
        ("leases", queue.leases),
        ("waiting (counter)", queue.waiting),
        ("waiting (queued)", queue.queued),
        ("blocked", queue.blocked),
        ("due", queue.due),
        ("turns", queue.turns),
        *((f"permits in use of {replica}", used) for replica, used in queue.permits_used.items()),
        *((f"open prompts of {thread}", count) for thread, count in dump.open_threads.items()),
    ):
        if count:
            yield Violation(rule=Rule.LEAK, subject=what, evidence=f"{count} after the drain")


def _doors(history: History, expected: Expectations) -> Iterator[Violation]:
    if not expected.probed:
        return
    for fault in history.faults:
        after = [o for o in history.operations if o.began >= fault.at]
        for kind in Kind:
            if kind is not Kind.SUBMIT_SYNC and not any(o.kind is kind and o.outcome is Outcome.OK for o in after):
                yield Violation(rule=Rule.AVAILABLE, subject=kind, evidence=f"never worked after the {fault.kind} died")
    for operation in history.operations:
        yield from _door(operation, history.faults, expected)


def _door(operation: Operation, faults: Sequence[Fault], expected: Expectations) -> Iterator[Violation]:
    subject = f"{operation.kind} {operation.prompt}"
    took = operation.ended - operation.began
    if operation.kind is not Kind.SUBMIT_SYNC and took > expected.call_s:
        yield Violation(rule=Rule.AVAILABLE, subject=subject, evidence=f"took {took:.2f} s ({operation.detail})")
    if operation.status == 503 and not operation.retry_after and operation.kind is not Kind.SUBSCRIBE:
        yield Violation(rule=Rule.TRUTHFUL, subject=subject, evidence="503 without Retry-After")
    if operation.outcome is Outcome.OK or (operation.kind is Kind.CANCEL and operation.status == 404):
        return
    excused = expected.doors_open_after_s is not None and any(
        # A call that was under way when the fault struck is excused too.
        operation.ended >= fault.at and operation.began < fault.at + expected.doors_open_after_s
        for fault in faults
    )
    if not excused:
        moment = min((operation.began - fault.at for fault in faults), default=0.0)
        yield Violation(
            rule=Rule.AVAILABLE,
            subject=subject,
            evidence=f"{operation.outcome} with status {operation.status}, {moment:.2f} s from the fault: {operation.detail}",
        )


def _times(history: History, expected: Expectations) -> Iterator[Violation]:
    for what, times in (
        ("next log entry", history.recoveries),
        ("first token of the next prompt", history.next_tokens),
    ):
        for recovery in times:
            if recovery.seconds > expected.recovery_s:
                yield Violation(
                    rule=Rule.SLOW,
                    subject=recovery.what,
                    evidence=f"{what} after {recovery.seconds:.2f} s, allowed are {expected.recovery_s:g}",
                )


def _stale(history: History, finals: Finals, expected: Expectations) -> Iterator[Violation]:
    # Where all that was hit had ended or was cancelled meanwhile, nothing was superseded.
    if history.recoveries and finals.stale_rejected < expected.least_stale:
        yield Violation(
            rule=Rule.STALE,
            subject="fence",
            evidence=f"{finals.stale_rejected} stale writes were refused, at least {expected.least_stale} were provoked",
        )


def difference(got: str | None, right: str | None) -> str:
    """Where two texts part."""
    if got is None or right is None:
        return "there is none" if got is None else "there should be none"
    at = next((i for i, (a, b) in enumerate(zip(got, right, strict=False)) if a != b), min(len(got), len(right)))
    return f"differs at character {at} of {len(right)}: {got[at : at + 20]!r} instead of {right[at : at + 20]!r}"


def _gaps(numbers: Sequence[int]) -> str:
    return f"{numbers[:3]}…{numbers[-3:]} ({len(numbers)})"
