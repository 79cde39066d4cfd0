"""Fixtures of the unit tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import pytest

from deployments.replica import persist
from deployments.tasks import Supervisor
from tests.unit.replicas import NewReplica, make_replica


@pytest.fixture
async def new_replica(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NewReplica]:
    """Makes replicas that do not pause before they ask the store again."""
    monkeypatch.setattr(persist, "RETRY_S", 0)
    supervisor = Supervisor()
    yield partial(make_replica, supervisor)
    await supervisor.stop()
