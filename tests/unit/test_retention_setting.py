from typing import Any

import pytest

from deployments.ledger import ledger_name
from deployments.settings import InvalidSettings, Settings
from pipeline.states import TERMINAL, Status

ARGS: dict[str, Any] = {"redis_url": "redis://store.invalid", "models": [{"id": "m", "source": "m"}]}


def test_by_default_everything_is_kept():
    assert Settings.parse(ARGS).retention.days == {}


def test_days_are_set_by_status():
    retention = {"completed": 30, "abandoned": 0.5, "canceled": None}
    assert Settings.parse({**ARGS, "retention": retention}).retention.days == {
        Status.COMPLETED: 30.0,
        Status.ABANDONED: 0.5,
    }


def test_every_status_a_prompt_can_end_in_has_a_setting(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PROMPT_SVC_RETENTION", '{"completed": 1, "abandoned": 1, "canceled": 1}')
    assert set(Settings.parse(ARGS).retention.days) == TERMINAL


@pytest.mark.parametrize(
    ("retention", "named"),
    [
        ({"completed": 0}, "retention.completed"),
        ({"completed": -1}, "retention.completed"),
        ({"canceled": "soon"}, "retention.canceled"),
        ({"running": 3}, "retention.running"),
        (30, "retention"),
    ],
)
def test_a_wrong_one_is_named(retention: Any, named: str):
    with pytest.raises(InvalidSettings, match=named):
        Settings.parse({**ARGS, "retention": retention})


def test_another_retention_is_kept_by_another_ledger():
    """Ledgers outlive deploys: one that goes on with the old setting would erase what is to be kept now."""
    names = {
        ledger_name(Settings.parse({**ARGS, "retention": retention}), "m")
        for retention in ({}, {"completed": 30}, {"completed": 31})
    }
    assert len(names) == 3
