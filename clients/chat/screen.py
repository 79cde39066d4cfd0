"""What the user sees. Answers go to stdout, everything else to stderr: through a pipe there is nothing but answers."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.status import Status


class Screen:
    """A terminal, or a pipe."""

    def __init__(self) -> None:
        self._notes = Console(stderr=True, highlight=False, soft_wrap=True)
        self._status: Status | None = None
        self._column = 0
        #: Whether somebody sits in front of it.
        self.is_terminal = sys.stdin.isatty() and sys.stdout.isatty()

    def note(self, text: str) -> None:
        """A line about the chat."""
        self._end_status()
        self.end_line()
        self._notes.print(escape(printable(text)), style="dim")

    def greet(self, text: str) -> None:
        """A line that is for people only."""
        if self.is_terminal:
            self.note(text)

    def write(self, text: str) -> None:
        """A piece of an answer, at once. What would steer the terminal is left out: a model may say anything."""
        shown = printable(text)
        if not shown:
            return
        self._end_status()
        sys.stdout.write(shown)
        sys.stdout.flush()
        self._column = 0 if shown.endswith("\n") else 1

    def end_line(self) -> None:
        """Begin a new line unless there is one."""
        if self._column:
            sys.stdout.write("\n")
            sys.stdout.flush()
            self._column = 0

    @contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """Show that something is waited for, until something is written."""
        if self.is_terminal:
            self._status = self._notes.status(text, spinner="dots")
            self._status.start()
        try:
            yield
        finally:
            self._end_status()

    def wait_for(self, text: str) -> None:
        """Say what is waited for now."""
        if self._status is not None:
            self._status.update(escape(text))

    def _end_status(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


def printable(text: str) -> str:
    """A text without control characters, but for line ends and tabs."""
    return "".join(
        character for character in text if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cs")
    )
