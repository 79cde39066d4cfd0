"""What an attempt does between its claim and its end, as the runner of attempts sees it: text or pictures."""

from __future__ import annotations

from typing import Protocol

from deployments.replica.attempt_log import AttemptLog
from pipeline.store.attempts import Claimed


class Work(Protocol):
    """Generates and records the answers of one model."""

    @property
    def fingerprint(self) -> str:
        """Of the engine (``pipeline.engine.Engine``)."""
        ...

    async def answer(self, claimed: Claimed, log: AttemptLog) -> bool:
        """Generate the answer and complete the prompt with it. Whether that was recorded; it was not if the attempt is stale.

        Cancelled when the lease is lost.

        Raises:
            StaleLease: as False.
            EngineDead: the replica must go.
            Exception: the attempt has failed.
        """
        ...
