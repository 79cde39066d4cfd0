"""The ledger of one model's queue: a named, detached actor that grants leases and lets time pass over the queue.

Needed for time to pass, for nothing else: accepting, cancelling, reading, streaming and a running attempt's own records go to
the store directly (DESIGN §2), and while it restarts the routers grant by themselves. It keeps nothing that the store does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time

import ray
from ray.actor import ActorHandle

from deployments.settings import Settings
from deployments.tasks import Supervisor
from pipeline.store.connection import connect_patient
from pipeline.store.keys import Keys
from pipeline.store.queue import Grant, ModelQueue
from pipeline.store.retention import BATCH, Retention
from pipeline.store.sweeper import Sweeper

logger = logging.getLogger("ray.serve")

#: Part of the actor's name: raise it when the methods change, so that a new deploy never talks to an old ledger.
PROTOCOL = 1
NAMESPACE = "prompt-svc"
#: A ledger no router has asked for this long ends itself, seconds. Routers ask every second.
FORSAKEN_S = 60.0
#: Seconds between two batches of prompts to erase, while there are more.
BACKLOG_S = 0.1


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0)
class PromptLedger:
    """Grants, expiry sweep, retry timers and fairness turns of one model's queue; and retention, of all."""

    def __init__(self, settings: Settings, model_id: str) -> None:
        client = connect_patient(settings.redis_url.get_secret_value())
        keys = Keys(settings.redis_namespace)
        self._queue = ModelQueue(client, keys, model_id)
        self._sweeper = Sweeper(
            self._queue, sweep_s=settings.sweep_s, heartbeat_s=settings.heartbeat_s, lease_s=settings.lease_s
        )
        self._retention = Retention(client, keys, settings.retention.days)
        self._claim_s = settings.claim_s
        self._sweep_s = settings.sweep_s
        self._last_asked = time.monotonic()
        self._supervisor: Supervisor | None = None

    async def grant(self, most: int) -> list[Grant]:
        """Lease up to ``most`` waiting prompts to the caller, who dispatches them."""
        if self._supervisor is None:
            # Here, not in the constructor: that one runs outside the actor's event loop.
            self._supervisor = Supervisor()
            self._supervisor.keep_running(self._sweep_for_ever, name="sweep")
            if not self._retention.is_for_ever:
                self._supervisor.keep_running(self._retain_for_ever, name="retention")
        self._last_asked = time.monotonic()
        return await self._queue.grant(most, self._claim_s)

    async def hand_back(self, grant: Grant) -> bool:
        """The grant did not reach a replica."""
        return await self._queue.hand_back(grant.ref, grant.fence)

    async def lost(self, grant: Grant) -> bool:
        """The replica died under the grant."""
        return await self._queue.lose(grant.ref, grant.fence, await _alive_nodes())

    async def _sweep_for_ever(self) -> None:
        while True:
            swept = await self._sweeper.sweep(await _alive_nodes())
            if swept.was_away:
                logger.info(
                    "%s: replicas could not be heard for a while, each begins a lease anew", self._queue.model_id
                )
            if swept.lost or swept.replicas_dropped:
                logger.warning(
                    "%s: %d leases expired, %d replicas gone", self._queue.model_id, swept.lost, swept.replicas_dropped
                )
            if time.monotonic() - self._last_asked > FORSAKEN_S:
                logger.info("%s: no router has asked for %g s, the ledger ends", self._queue.model_id, FORSAKEN_S)
                # Not exit_actor: that is an exception for the method of an actor, and this is a task beside it.
                ray.kill(ray.get_runtime_context().current_actor, no_restart=True)
            pause = self._sweep_s if swept.next_due_s is None else min(self._sweep_s, swept.next_due_s + 0.001)
            await asyncio.sleep(pause)

    async def _retain_for_ever(self) -> None:
        """Every ledger erases prompts of all models, those that have left the catalogue included: nobody else comes by."""
        while True:
            erased = await self._retention.erase_expired()
            if erased:
                logger.info("%d prompts were erased, they had been kept long enough", erased)
            await asyncio.sleep(BACKLOG_S if erased == BATCH else self._sweep_s)


async def _alive_nodes() -> list[str]:
    nodes = await asyncio.to_thread(ray.nodes)
    return [node["NodeID"] for node in nodes if node["Alive"]]


def ledger_name(settings: Settings, model_id: str) -> str:
    """Two apps with other stores or other timings have other ledgers."""
    seconds = (settings.claim_s, settings.sweep_s, settings.heartbeat_s, settings.lease_s)
    timings = _digest(f"{seconds} {settings.retention}")
    return f"prompt-ledger:{_queue_of(settings)}:v{PROTOCOL}-{timings}:{model_id}"


def open_ledger(settings: Settings, model_id: str) -> ActorHandle[PromptLedger]:
    """The model's ledger; the first one to ask creates it."""
    return PromptLedger.options(
        name=ledger_name(settings, model_id),
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        max_concurrency=1000,
    ).remote(settings, model_id)


def retire_other_ledgers(settings: Settings, model_id: str) -> None:
    """End the ledgers of this queue that speak earlier protocols or keep other timings. Once, when a router starts: routers of
    the old deploy bring theirs back while they last, which harms nothing, and ends FORSAKEN_S after them."""
    name = ledger_name(settings, model_id)
    for other in ray.util.list_named_actors(all_namespaces=True):
        prefix, queue, _, model = ([*other["name"].split(":", 3), "", "", ""])[:4]
        if (other["namespace"], prefix, queue, model) != (NAMESPACE, "prompt-ledger", _queue_of(settings), model_id):
            continue
        if other["name"] != name:
            with contextlib.suppress(ValueError):  # It went by itself in the meantime.
                ray.kill(ray.get_actor(other["name"], namespace=NAMESPACE), no_restart=True)


def _queue_of(settings: Settings) -> str:
    return f"{settings.redis_namespace}-{_digest(settings.redis_url.get_secret_value())}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
