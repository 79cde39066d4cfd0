"""Policies held against calls, on every ingress replica alike: counters are in the store, policies at most a second old."""

from __future__ import annotations

import math

from deployments.ingress.fresh import Fresh
from pipeline.errors import TooManyRequests, Unauthorized
from pipeline.policy import Call, Charge, Entity, Policy, PolicyBook, Scope
from pipeline.store.tables import PolicyStore

#: Clients of one kind wait as long as they are told up to this, and do not come back at all when it is longer (SECURITY §2.8).
LONGEST_RETRY_AFTER_S = 120


class Blocked(Unauthorized):
    """Blocked by a policy"""


class RateLimited(TooManyRequests):
    """Too many requests under a policy. The message says how long it really takes."""

    def __init__(self, charge: Charge, wait_s: float) -> None:
        limit = charge.limit
        whose = "user" if limit.entity is Entity.USER else "address"
        where = f" to {charge.endpoint}" if limit.scope is Scope.ENDPOINT else ""
        super().__init__(
            f"Too Many Requests: a policy allows {limit.max_requests} in {limit.time_window}{where} per {whose}, "
            f"try again in {max(1, math.ceil(wait_s))} s",
            retry_after_s=min(wait_s, LONGEST_RETRY_AFTER_S),
        )


class Policies:
    """The policies in force. Every method may raise StoreUnavailable: a call that cannot be counted is not admitted."""

    def __init__(self, store: PolicyStore) -> None:
        self._store = store
        self._book = Fresh(self._read)

    async def enforce(self, call: Call) -> None:
        """Count a call.

        Raises:
            Blocked: from where it comes. The contract knows no 403.
            RateLimited: it is not counted.
        """
        book = await self._book.get()
        if book.blocks(call):
            raise Blocked
        if charges := book.charges(call):
            refused = await self._store.admit(charges)
            if refused is not None:
                raise RateLimited(*refused)

    async def allows(self, call: Call) -> bool:
        """``enforce`` as a question. It counts, too: whoever asks does so for a call that follows (contract §6)."""
        try:
            await self.enforce(call)
        except (Blocked, RateLimited):
            return False
        return True

    async def upsert(self, policy: Policy) -> None:
        await self._store.put(policy)
        self._book.forget()

    async def remove(self, policy_id: str) -> bool:
        removed = await self._store.remove(policy_id)
        self._book.forget()
        return removed

    async def all(self) -> tuple[Policy, ...]:
        return (await self._read()).policies

    async def _read(self) -> PolicyBook:
        return PolicyBook(await self._store.all())
