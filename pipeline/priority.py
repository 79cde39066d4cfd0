"""How urgent a prompt is: of those that wait for a model the higher priority runs first."""

from __future__ import annotations

from typing import Final

from pipeline.errors import InvalidField

LOWEST: Final = -10
HIGHEST: Final = 10
NORMAL: Final = 0


def check_priority(priority: int, *, highest: int) -> None:
    """Raises InvalidField unless a caller whose bound is ``highest`` may ask for ``priority``: if everybody could ask for the
    highest, it would order nothing."""
    if not LOWEST <= priority <= highest:
        raise InvalidField("priority", priority, f"an integer from {LOWEST} to {highest}")
