"""An ``EventLog`` in a list; write to it with ``tell``, which rings as the scripts do.

``test_firehose.py`` keeps it honest: same methods, same signatures.
"""

from __future__ import annotations

from pipeline.store.events import Event, EventId
from tests.unit.logs_in_memory import USER, MemoryLogs


class MemoryEvents:
    """The events of ``USER``."""

    def __init__(self, logs: MemoryLogs) -> None:
        self._logs = logs
        self.kept: list[Event] = []
        self.listening = False
        #: Names of the calls, in order.
        self.calls: list[str] = []
        self._count = 0

    def tell(self, name: str, prompt_id: str = "p", **data: str) -> None:
        if not self.listening:
            return
        self._count += 1
        self.kept.append(Event(id=EventId(1000, self._count), name=name, data={"promptId": prompt_id, **data}))
        for pubsub in self._logs.pubsubs:
            pubsub.hear("message", self._logs.keys.events_bell(USER), b"0")

    def expire(self) -> None:
        self.listening = False
        self.kept.clear()

    async def listen(self, user_id: str) -> bool:
        self.calls.append("listen")
        assert user_id == USER
        before, self.listening = self.listening, True
        return before

    async def bounds(self, user_id: str) -> tuple[EventId, EventId] | None:
        self.calls.append("bounds")
        return (self.kept[0].id, self.kept[-1].id) if self.kept else None

    async def behind(self, user_id: str, position: EventId, count: int = 100) -> list[Event]:
        self.calls.append("behind")
        return [event for event in self.kept if event.id > position][:count]
