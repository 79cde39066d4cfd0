"""When a failed attempt is tried again. The policy returns a decision; whoever asked acts on it."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_MAX_RETRIES = 4
LONGEST_DELAY_S = 512.0


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryAfter:
    """Try again."""

    #: Seconds from the failure on.
    delay_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Abandon:
    """Do not try again."""


RetryDecision = RetryAfter | Abandon


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """2, 4, 8, 16 … seconds, at most 512 (product document, "Retry Logic"; DESIGN §3)."""

    #: Retries after the first attempt; 4 make five attempts.
    max_retries: int = DEFAULT_MAX_RETRIES

    def decide(self, *, failures: int, permanent: bool = False) -> RetryDecision:
        """What follows the ``failures``-th failure (1 = the first attempt failed)."""
        if permanent or failures > self.max_retries:
            return Abandon()
        return RetryAfter(delay_s=min(2.0**failures, LONGEST_DELAY_S))
