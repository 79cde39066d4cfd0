"""What happened, as the clients saw it: operations with an outcome each, events of streams, injected faults (after Jepsen)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

#: Every prompt's text and id hold one of these, and no two prompts the same.
CANARY = re.compile(rb"canary-[0-9a-f]{12}")


class Kind(StrEnum):
    """What a client does."""

    SUBMIT = "submit"
    #: Waits for the answer.
    SUBMIT_SYNC = "submit-sync"
    CANCEL = "cancel"
    LIST = "list"
    GET = "get"
    #: Opens a stream; ended when its headers and first bytes are there.
    SUBSCRIBE = "subscribe"


class Outcome(StrEnum):
    OK = "ok"
    #: It certainly had no effect.
    FAIL = "fail"
    #: Unknown: it may have happened or not, or may still happen.
    INFO = "info"


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A prompt as its client means it, before it is sent."""

    id: str
    user: str
    thread: str
    text: str
    canary: str
    max_retries: int
    #: What an undisturbed attempt answers; None where that cannot be known (a real model).
    expected: str | None
    #: The body of its submission, without ``sync``.
    body: dict[str, object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One call of a client. Times are ``time.monotonic()``."""

    kind: Kind
    user: str
    began: float
    ended: float
    outcome: Outcome
    prompt: str = ""
    #: HTTP status, 0 when no answer came.
    status: int = 0
    #: Whether the answer said when to try again.
    retry_after: bool = False
    #: What went wrong, for a human.
    detail: str = ""
    #: Of a cancel: entries of the prompt's log right after it was acknowledged.
    entries: int | None = None
    #: Of a sync submit: the answer.
    answer: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One event of a stream."""

    reader: str
    user: str
    thread: str
    #: ``place-number``.
    id: str
    data: bytes
    at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Connection:
    """One connection of a reader; a reader that is cut opens the next."""

    reader: str
    user: str
    thread: str
    #: The Last-Event-ID it sent, empty for none.
    resumed_from: str
    opened: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One injected fault."""

    kind: str
    victim: str
    at: float
    #: Refs of the prompts that the victim was running, or, when it ran none, of those that were running at all.
    hit: tuple[str, ...]
    #: Whether it ends attempts, so that it counts as a crash of the prompts it hit.
    lethal: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Recovery:
    """Time from a fault to the next sign of life."""

    what: str
    seconds: float


@dataclass(kw_only=True, slots=True)
class History:
    """Everything recorded in one run."""

    seed: int
    asked: dict[str, Asked] = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    #: Next log entry of each prompt that a fault hit.
    recoveries: list[Recovery] = field(default_factory=list)
    #: First event of a prompt submitted right after the fault.
    next_tokens: list[Recovery] = field(default_factory=list)
    #: (user, canary) of every canary in any byte a user received.
    sightings: set[tuple[str, str]] = field(default_factory=set)

    def received(self, user: str, body: bytes) -> None:
        """Note the canaries in what a user was sent."""
        self.sightings.update((user, match.decode()) for match in CANARY.findall(body))

    @contextmanager
    def operation(self, kind: Kind, user: str, prompt: str = "") -> Iterator[Pending]:
        """Record one operation; without a verdict its outcome is unknown."""
        pending = Pending()
        began = time.monotonic()
        try:
            yield pending
        finally:
            self.operations.append(
                Operation(
                    kind=kind,
                    user=user,
                    prompt=prompt,
                    began=began,
                    ended=time.monotonic() if pending.ended is None else pending.ended,
                    outcome=pending.outcome,
                    status=pending.status,
                    retry_after=pending.retry_after,
                    detail=pending.detail,
                    entries=pending.entries,
                    answer=pending.answer,
                )
            )

    def acknowledged(self) -> set[str]:
        """Ids of the prompts whose acceptance some client was told."""
        return {
            operation.prompt
            for operation in self.operations
            if operation.kind in (Kind.SUBMIT, Kind.SUBMIT_SYNC) and operation.outcome is Outcome.OK
        }

    def submitted(self) -> set[str]:
        """Ids whose acceptance is known or possible."""
        return {
            operation.prompt
            for operation in self.operations
            if operation.kind in (Kind.SUBMIT, Kind.SUBMIT_SYNC) and operation.outcome is not Outcome.FAIL
        }


@dataclass(kw_only=True, slots=True)
class Pending:
    """The verdict on an operation under way."""

    outcome: Outcome = Outcome.INFO
    status: int = 0
    retry_after: bool = False
    detail: str = ""
    entries: int | None = None
    answer: str | None = None
    ended: float | None = None

    def is_ended(self) -> None:
        """Stop its clock, before what belongs to the recording only."""
        self.ended = time.monotonic()
