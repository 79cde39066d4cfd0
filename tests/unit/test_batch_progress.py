"""What a batch shows of how far it is: a line in a log, a bar in a terminal, a summary at the end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from clients.batch.meter import Meter, duration
from clients.batch.progress import shown
from tests.waiting import until


class Screen:
    """A text stream, a terminal or not."""

    def __init__(self, *, is_terminal: bool) -> None:
        self._is_terminal = is_terminal
        self.text = ""

    def isatty(self) -> bool:
        return self._is_terminal

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None: ...


def meter() -> Meter:
    seconds = iter([0.0, *[10.0] * 1000])
    made = Meter(lines=100, answered_before=20, errors_before=1, clock=lambda: next(seconds))
    made.answered, made.errors, made.completion_tokens, made.in_flight = 27, 2, 290, 8
    return made


async def test_a_log_gets_a_line_every_few_seconds():
    screen: Any = Screen(is_terminal=False)
    async with shown(meter(), screen, every_s=0.001):
        await until(lambda: screen.text.count("\n") >= 2)
    line = screen.text.splitlines()[0]
    assert line == "50 of 100 lines, 3 errors, 8 in flight, 2.9 prompts/s, 29.0 tokens/s, 17.2 s left"


async def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    screen: Any = Screen(is_terminal=True)
    async with shown(meter(), screen):
        await asyncio.sleep(0)
    assert "50/100" in screen.text
    assert "2.9 prompts/s, 29.0 tokens/s, 3 errors" in screen.text


def test_the_summary_counts_this_run_and_the_ones_before():
    assert meter().summary() == (
        "47 answered, 3 errors; 29 lines in 10.0 s, 2.9 prompts/s, 29.0 tokens/s (21 were done before)"
    )
    assert [duration(s) for s in (4.23, 187, 43_500)] == ["4.2 s", "3 m 07 s", "12 h 05 m"]
