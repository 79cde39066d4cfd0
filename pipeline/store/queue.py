"""The queue of one model, as its ledger works it: grants, the sweep, permits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from redis.asyncio import Redis

from pipeline.cost import LOWEST
from pipeline.store.keys import Keys
from pipeline.store.scripts import Scripts

#: How long somebody who asks for a replica is remembered, seconds: longer than it takes to load a large model.
WANTED_S = 600


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """The right to run one attempt, until its deadline."""

    ref: str
    #: Number of the attempt, the fence of all its writes.
    fence: int
    #: The prompt is suspected of killing replicas and must be the only one its replica runs.
    alone: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Swept:
    """What one sweep found."""

    lost: int
    handed_back: int
    promoted: int
    replicas_dropped: int
    #: Seconds until the next retry is due, None if none is.
    next_due_s: float | None
    #: When it was, µs of the store's clock.
    at_us: int
    #: Replicas could not be heard before it: all begin a lease anew.
    was_away: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueDepth:
    waiting: int
    #: Wait outside the queue for earlier prompts of their thread; no replica could run them now.
    blocked: int
    leased: int
    #: Retries that are not due yet.
    delayed: int
    #: Attempts all live replicas together can hold.
    permits: int
    replicas: int
    #: Cost of what waits and what is leased, 1 = an ordinary text prompt (``pipeline.cost``).
    cost: float
    #: Whether somebody has asked for a replica of late (``ModelQueue.want``).
    wanted: bool
    #: Writes of attempts that others had followed, refused since the queue exists.
    stale_rejected: int

    @property
    def demand(self) -> float:
        """What replicas are needed for (``pipeline.scaling``). Whoever asks for a replica is like one cheap prompt."""
        return max(self.cost, LOWEST if self.wanted else 0.0)


class ModelQueue:
    """Transitions and figures of one model's queue. Every method may raise redis errors."""

    def __init__(self, client: Redis, keys: Keys, model_id: str) -> None:
        self._client = client
        self._keys = keys
        self._scripts = Scripts(client, keys.namespace)
        self.model_id = model_id

    async def grant(self, most: int, claim_s: float) -> list[Grant]:
        """Lease up to ``most`` prompts, never more than there are free permits. A grant that no replica claims within
        ``claim_s`` seconds goes back uncharged."""
        rows = await self._scripts.run("grant", self.model_id, most, round(claim_s * 1e6))
        return [Grant(ref=ref.decode(), fence=int(fence), alone=alone == 1) for ref, fence, alone in rows]

    async def sweep(
        self,
        alive_nodes: Iterable[str],
        most: int = 500,
        *,
        before_us: int = 0,
        patience_s: float = 0,
        grace_s: float = 0,
    ) -> Swept:
        """Expire leases and replicas, promote due retries. A replica whose node is not alive did not die of its prompts.

        Args:
            before_us: ``at_us`` of the sweep before, 0 if there was none.
            patience_s: longest time since then, seconds of the store's clock, in which replicas could be heard.
            grace_s: how long replicas on live nodes, and what they run, are given if it is longer; 0 gives nothing.
        """
        lost, handed_back, promoted, dropped, wait_us, at_us, was_away = await self._scripts.run(
            "sweep", self.model_id, most, before_us, round(patience_s * 1e6), round(grace_s * 1e6), *alive_nodes
        )
        wait = int(wait_us)
        return Swept(
            lost=lost,
            handed_back=handed_back,
            promoted=promoted,
            replicas_dropped=dropped,
            next_due_s=None if wait < 0 else wait / 1e6,
            at_us=int(at_us),
            was_away=was_away == 1,
        )

    async def hand_back(self, ref: str, fence: int) -> bool:
        """Return a grant uncharged. False if it was no longer owned."""
        return bool(await self._scripts.run("hand_back", ref, fence))

    async def lose(self, ref: str, fence: int, alive_nodes: Iterable[str]) -> bool:
        """The replica died under the attempt; held against the prompt if its node is alive. False if no longer owned."""
        return bool(await self._scripts.run("lose", ref, fence, *alive_nodes))

    async def follow(self, running: Iterable[str]) -> int:
        """Serve runs these replicas. One that ran and is not among them is told to leave: it finishes what it can and gets
        nothing more; one that was told so and is among them again stays. Returns how many are leaving."""
        return int(await self._scripts.run("follow", self.model_id, *running))

    async def move(self, *, stay: int, most: int, why: str) -> int:
        """Move the newest of the prompts that wait to their fallback models, those that have one, until ``stay`` are left.
        ``why`` is kept with each. Returns how many were moved, at most ``most``."""
        return int(await self._scripts.run("move", self.model_id, stay, most, why))

    async def want(self) -> None:
        """Ask for a replica: for a while there is a demand for one, whatever waits."""
        await self._client.set(self._keys.wanted(self.model_id), 1, ex=WANTED_S)

    async def depth(self) -> QueueDepth:
        pipe = self._client.pipeline(transaction=False)
        pipe.hmget(self._keys.stats(self.model_id), "waiting", "blocked", "permits", "stale_rejected", "extra")
        pipe.zcard(self._keys.leases(self.model_id))
        pipe.zcard(self._keys.due(self.model_id))
        pipe.zcard(self._keys.replicas(self.model_id))
        pipe.exists(self._keys.wanted(self.model_id))
        (waiting, blocked, permits, stale, extra), leased, delayed, replicas, wanted = await pipe.execute()
        return QueueDepth(
            waiting=int(waiting or 0),
            blocked=int(blocked or 0),
            leased=leased,
            delayed=delayed,
            permits=int(permits or 0),
            replicas=replicas,
            cost=(1000 * (int(waiting or 0) + leased) + int(extra or 0)) / 1000,
            wanted=bool(wanted),
            stale_rejected=int(stale or 0),
        )
