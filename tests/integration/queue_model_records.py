"""What the model of the queue keeps about a prompt, a message, a replica, and the time that passes."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.states import Status


@dataclass(slots=True)
class ModelPrompt:
    ref: str
    user: str
    thread: str
    priority: int
    seq: int
    place: int
    status: Status = Status.SCHEDULED
    fence: int = 0
    runs: int = 0
    failures: int = 0
    crashes: int = 0
    #: As in the record: 1 if it is still to get its history, 2 once it has got it.
    history: int = 0
    #: In thousandths.
    cost: int = 1000
    #: Whether it waits outside the queue for earlier prompts of its thread.
    blocked: bool = False
    holder: str = ""
    #: Node of the holder.
    node: str = ""
    #: Texts of the log's entries, None for an end entry.
    log: list[str | None] = field(default_factory=list)

    @property
    def id(self) -> str:
        return self.ref.split("/", 1)[1]


@dataclass(slots=True)
class ModelMessage:
    thread: str
    order: int
    #: The prompt it belongs to, empty for one posted by hand.
    ref: str


@dataclass(slots=True)
class ModelReplica:
    permits: int
    node: str
    #: Permits in use at its last heartbeat.
    used: int = 0


class Elapsed:
    """Deadlines that are over, and that no sweep has seen yet."""

    def __init__(self) -> None:
        #: In the order in which they expired.
        self.expired_leases: list[str] = []
        self.expired_replicas: list[str] = []
        self.elapsed_retries: list[str] = []

    def expire_lease(self, ref: str) -> None:
        self._unexpire(self.expired_leases, ref)
        self.expired_leases.append(ref)

    def expire_replica(self, replica: str) -> None:
        self._unexpire(self.expired_replicas, replica)
        self.expired_replicas.append(replica)

    def elapse_retry(self, ref: str) -> None:
        self._unexpire(self.elapsed_retries, ref)
        self.elapsed_retries.append(ref)

    @staticmethod
    def _unexpire(expired: list[str], what: str) -> None:
        if what in expired:
            expired.remove(what)
