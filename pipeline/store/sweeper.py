"""Sweeps one queue again and again, and knows when nobody could have been heard in between."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.store.queue import ModelQueue, Swept


class Sweeper:
    """As long as its ledger lives. A store that was away, or whose clock was set, kept all replicas from renewing their leases:
    that is no crash of theirs. A new ledger goes by the sweep of the one before it, which the store remembers to a second."""

    def __init__(self, queue: ModelQueue, *, sweep_s: float, heartbeat_s: float, lease_s: float) -> None:
        """
        Args:
            sweep_s: longest time between two sweeps while all is well, seconds.
            heartbeat_s: seconds between two heartbeats of a replica; no shorter absence costs it its lease.
            lease_s: what replicas are given after a longer one, seconds.
        """
        self._queue = queue
        self._patience_s = sweep_s + heartbeat_s
        self._lease_s = lease_s
        self._before_us = 0

    async def sweep(self, alive_nodes: Iterable[str]) -> Swept:
        """Raises redis errors."""
        swept = await self._queue.sweep(
            alive_nodes, before_us=self._before_us, patience_s=self._patience_s, grace_s=self._lease_s
        )
        self._before_us = swept.at_us
        return swept
