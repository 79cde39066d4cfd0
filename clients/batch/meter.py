"""How far a batch is, and how fast."""

from __future__ import annotations

import time
from collections.abc import Callable


class Meter:
    """Counts what happens to the lines."""

    def __init__(
        self, *, lines: int, answered_before: int, errors_before: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        #: Of the input; blank ones are taken off as they are found.
        self.lines = lines
        #: Done by runs before this one.
        self.answered_before = answered_before
        self.errors_before = errors_before
        self.answered = 0
        self.errors = 0
        self.completion_tokens = 0
        #: Lines that are being run.
        self.in_flight = 0
        self._clock = clock
        self._began = clock()

    @property
    def done(self) -> int:
        """Lines that have a record, by this run or another."""
        return self.answered_before + self.errors_before + self.answered + self.errors

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return self._clock() - self._began

    @property
    def prompts_per_s(self) -> float:
        return (self.answered + self.errors) / max(self.seconds, 1e-9)

    @property
    def tokens_per_s(self) -> float:
        return self.completion_tokens / max(self.seconds, 1e-9)

    @property
    def left_s(self) -> float | None:
        """Seconds until the end at the pace so far; None while there is none."""
        return (self.lines - self.done) / self.prompts_per_s if self.answered + self.errors else None

    def progress(self) -> str:
        """One line for a log."""
        left = self.left_s
        return (
            f"{self.done} of {self.lines} lines, {self.errors_before + self.errors} errors, {self.in_flight} in flight, "
            f"{self.rates()}" + ("" if left is None else f", {duration(left)} left")
        )

    def rates(self) -> str:
        return f"{self.prompts_per_s:.1f} prompts/s, {self.tokens_per_s:.1f} tokens/s"

    def summary(self) -> str:
        """What has been done, at the end."""
        before = self.answered_before + self.errors_before
        return (
            f"{self.answered_before + self.answered} answered, {self.errors_before + self.errors} errors; "
            f"{self.answered + self.errors} lines in {duration(self.seconds)}, {self.rates()}"
            + (f" ({before} were done before)" if before else "")
        )


def duration(seconds: float) -> str:
    """Such as ``4.2 s``, ``3 m 07 s`` or ``12 h 05 m``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} m {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} m"
