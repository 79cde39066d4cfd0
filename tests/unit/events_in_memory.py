"""A user's events without a store: an ``EventLog`` in a list, and a subscription that shows one event of each kind.

Write to the log with ``tell``, which rings as the scripts do. ``test_events.py`` keeps it honest: same methods, same signatures.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from deployments.ingress import events as module
from deployments.ingress.events import MISSED, Start
from pipeline.store.events import BEGINNING, Event, EventId
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
        after = self.kept[-1].id if self.kept else BEGINNING
        data = {"promptId": prompt_id, **data}
        self.kept.append(Event(id=EventId(1000, self._count), name=name, data=data, after=after))
        for pubsub in self._logs.pubsubs:
            pubsub.hear("message", self._logs.keys.events_bell(USER), b"0")

    def cut_off(self, count: int) -> None:
        """The oldest are more than are kept."""
        del self.kept[:count]

    def expire(self) -> None:
        self.listening = False
        self.kept.clear()

    async def listen(self, user_id: str) -> bool:
        self.calls.append("listen")
        assert user_id == USER
        before, self.listening = self.listening, True
        return before

    async def bounds(self, user_id: str) -> tuple[Event, Event] | None:
        self.calls.append("bounds")
        return (self.kept[0], self.kept[-1]) if self.kept else None

    async def behind(self, user_id: str, position: EventId, count: int = 100) -> list[Event]:
        self.calls.append("behind")
        return [event for event in self.kept if event.id > position][:count]


class StubbedEvents:
    """What ``UserEvents`` stands on; keeps whose events were asked for, and from where."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, EventId | None]] = []
        self._start = Start(position=BEGINNING, has_missed=False)

    @classmethod
    def put_in(cls, monkeypatch: pytest.MonkeyPatch) -> StubbedEvents:
        """In the place of the real ones."""
        stub = cls()
        monkeypatch.setattr(module, "begin", stub.begin)
        monkeypatch.setattr(module, "follow", stub.follow)
        return stub

    async def begin(self, log: Any, user_id: str, last: EventId | None) -> Start:
        self.asked.append((user_id, last))
        return self._start

    async def follow(self, log: Any, hub: Any, user_id: str, start: Start) -> AsyncIterator[Event]:
        assert start is self._start
        prompt, thread = {"promptId": "prom-1"}, {"threadId": "thr/ä"}
        events = [
            ("chatThreadAdded", thread),
            ("chatMessageAdded", thread),
            ("promptAdded", prompt),
            ("promptProcessingStarted", prompt),
            ("promptProcessingFinished", {**prompt, "error": "out of blocks"}),
            ("promptProcessingStarted", prompt),
            ("chatMessageAdded", thread),
            ("promptProcessingFinished", prompt),
            ("chatThreadUpdate", thread),
            ("promptRemoved", prompt),
            (MISSED, {}),
        ]
        for number, (name, data) in enumerate(events):
            yield Event(id=EventId(1767225600000, number), name=name, data=data)
