"""What the user types: lines with the keys and the memory of a shell, or the lines of a pipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from clients.chat.screen import Screen

if TYPE_CHECKING:
    from types import ModuleType

#: Lines that are remembered.
_REMEMBERED = 1000
#: Begins and ends a message of several lines.
FENCE = '"""'


def history_path(environ: Mapping[str, str]) -> Path:
    """Where lines are remembered: ``PROMPT_CHAT_HISTORY``, else with the user's other state."""
    named = environ.get("PROMPT_CHAT_HISTORY")
    if named:
        return Path(named)
    state = environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "prompt-chat" / "history"


class LineInput:
    """Messages, one after another."""

    def __init__(self, screen: Screen, *, history: Path | None) -> None:
        """``history``: None to remember nothing."""
        self._screen = screen
        self._readline = _readline() if screen.is_terminal else None
        self._history = history if self._readline is not None else None
        if self._readline is not None and self._history is not None and self._history.exists():
            try:
                self._readline.read_history_file(self._history)
            except OSError as error:
                screen.note(f"{self._history}: cannot be read: {error.strerror}")

    def message(self) -> str | None:
        """The next message, None at the end. Raises KeyboardInterrupt."""
        line = self._line("> ")
        if line is None or not line.strip().startswith(FENCE):
            return line
        lines = [line.strip().removeprefix(FENCE)]
        while not lines[-1].rstrip().endswith(FENCE):
            more = self._line("… ")
            if more is None:
                break
            lines.append(more)
        lines[-1] = lines[-1].rstrip().removesuffix(FENCE)
        return "\n".join(lines).strip("\n")

    def keep(self) -> None:
        """Remember the lines for the next time; only their user may read them."""
        if self._readline is None or self._history is None:
            return
        try:
            self._history.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self._history, os.O_WRONLY | os.O_CREAT, 0o600))
            self._readline.set_history_length(_REMEMBERED)
            self._readline.write_history_file(self._history)
        except OSError as error:
            self._screen.note(f"{self._history}: cannot be written: {error.strerror}")

    def _line(self, sign: str) -> str | None:
        if self._screen.is_terminal:
            try:
                return input(sign)
            except EOFError:
                print()
                return None
        line = sys.stdin.readline()
        return line.rstrip("\r\n") if line else None


def _readline() -> ModuleType | None:
    """The module, where Python has it."""
    try:
        import readline
    except ImportError:
        return None
    return readline
