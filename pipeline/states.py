"""The states of a prompt and the transitions between them.

The store enforces the same table in its scripts (``pipeline/store/lua``); this module is the readable form of it, used by the
state-machine tests and by everyone who asks what may follow what.

    scheduled ──grant──> running ──finish──> completed
        ^                  │ ├─────fail────> errored ──due, grant──> running
        └─hand back, lose──┘ ├─────fail────> abandoned   (retries used up, a permanent fault, poison)
    scheduled, errored, running ──cancel──> canceled
    scheduled, errored, running ──depart──> abandoned   (the model has left the catalogue, and no lease is alive)
"""

from __future__ import annotations

from enum import StrEnum

from pipeline.errors import InvalidTransition


class Status(StrEnum):
    """Values on the wire, from the product document ("Queue Status Values")."""

    SCHEDULED = "scheduled"
    RUNNING = "running"
    COMPLETED = "completed"
    #: Failed, will be retried.
    ERRORED = "errored"
    #: Failed for good.
    ABANDONED = "abandoned"
    CANCELED = "canceled"

    @property
    def is_terminal(self) -> bool:
        return self in TERMINAL


TERMINAL = frozenset({Status.COMPLETED, Status.ABANDONED, Status.CANCELED})

TRANSITIONS: dict[str, dict[Status, Status]] = {
    "grant": {Status.SCHEDULED: Status.RUNNING, Status.ERRORED: Status.RUNNING},
    "finish": {Status.RUNNING: Status.COMPLETED},
    "retry": {Status.RUNNING: Status.ERRORED},
    "abandon": {Status.RUNNING: Status.ABANDONED},
    "hand_back": {Status.RUNNING: Status.SCHEDULED},
    "lose": {Status.RUNNING: Status.SCHEDULED},
    "cancel": {
        Status.SCHEDULED: Status.CANCELED,
        Status.ERRORED: Status.CANCELED,
        Status.RUNNING: Status.CANCELED,
    },
    "depart": {
        Status.SCHEDULED: Status.ABANDONED,
        Status.ERRORED: Status.ABANDONED,
        Status.RUNNING: Status.ABANDONED,
    },
}


def advance(status: Status, transition: str) -> Status:
    """The state behind a transition.

    Raises:
        InvalidTransition: the transition does not start from ``status``.
    """
    following = TRANSITIONS[transition].get(status)
    if following is None:
        raise InvalidTransition(f"a prompt that is {status} cannot {transition.replace('_', ' ')}")
    return following
