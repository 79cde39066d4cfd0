"""How long a client asks again while the service is away, and how often."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from clients.errors import Unavailable

_FIRST_S, _LONGEST_S = 0.1, 5.0


class Patience:
    """Counts down from the first failure; a success starts it anew. It never sleeps itself."""

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Args:
            seconds: how long to go on after a first failure; 0 gives up at once.
        """
        self._seconds = seconds
        self._clock = clock
        self._failing_since: float | None = None
        self._failures = 0

    def succeeded(self) -> None:
        self._failing_since, self._failures = None, 0

    def pause_after(self, error: Unavailable) -> float:
        """Seconds to wait before the next try. Raises ``error`` when it has gone on for too long."""
        now = self._clock()
        if self._failing_since is None:
            self._failing_since = now
        left = self._failing_since + self._seconds - now
        if left <= 0:
            raise error
        pause: float = min(_LONGEST_S, _FIRST_S * 2**self._failures)
        self._failures = min(self._failures + 1, 16)
        # Callers that failed together do not come back together.
        return min(left, max(pause * random.uniform(0.5, 1.0), error.retry_after_s or 0.0))
