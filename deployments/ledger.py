"""The ledger of one model's queue: a named, detached actor that grants leases and lets time pass over the queue.

Needed for a waiting prompt to start, for nothing else: accepting, cancelling, reading, streaming and a running attempt's
own records go to the store directly (DESIGN §2). It keeps nothing that the store does not.
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

logger = logging.getLogger("ray.serve")

#: Part of the actor's name: raise it when the methods change, so that a new deploy never talks to an old ledger.
PROTOCOL = 1
NAMESPACE = "prompt-svc"
#: A ledger no router has asked for this long ends itself, seconds. Routers ask every second.
FORSAKEN_S = 60.0


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0)
class PromptLedger:
    """Grants, expiry sweep, retry timers and fairness turns of one model's queue."""

    def __init__(self, settings: Settings, model_id: str) -> None:
        client = connect_patient(settings.redis_url.get_secret_value())
        self._queue = ModelQueue(client, Keys(settings.redis_namespace), model_id)
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
            swept = await self._queue.sweep(await _alive_nodes())
            if swept.lost or swept.replicas_dropped:
                logger.warning(
                    "%s: %d leases expired, %d replicas gone", self._queue.model_id, swept.lost, swept.replicas_dropped
                )
            if time.monotonic() - self._last_asked > FORSAKEN_S:
                logger.info("%s: no router has asked for %g s, the ledger ends", self._queue.model_id, FORSAKEN_S)
                ray.actor.exit_actor()
            pause = self._sweep_s if swept.next_due_s is None else min(self._sweep_s, swept.next_due_s + 0.001)
            await asyncio.sleep(pause)


async def _alive_nodes() -> list[str]:
    nodes = await asyncio.to_thread(ray.nodes)
    return [node["NodeID"] for node in nodes if node["Alive"]]


def ledger_name(settings: Settings, model_id: str) -> str:
    """Two apps with other stores or other timings have other ledgers."""
    told = f"{settings.redis_url.get_secret_value()} {settings.claim_s} {settings.sweep_s}"
    digest = hashlib.sha256(told.encode()).hexdigest()[:8]
    return f"prompt-ledger:v{PROTOCOL}:{settings.redis_namespace}:{digest}:{model_id}"


def open_ledger(settings: Settings, model_id: str) -> ActorHandle[PromptLedger]:
    """The model's ledger; the first one to ask creates it, and ends those of earlier protocols and settings."""
    name = ledger_name(settings, model_id)
    ledger = PromptLedger.options(
        name=name, namespace=NAMESPACE, lifetime="detached", get_if_exists=True, max_concurrency=1000
    ).remote(settings, model_id)
    for other in ray.util.list_named_actors(all_namespaces=True):
        old = other["name"]
        if other["namespace"] == NAMESPACE and old != name and _same_queue(old, settings, model_id):
            with contextlib.suppress(ValueError):  # It went by itself in the meantime.
                ray.kill(ray.get_actor(old, namespace=NAMESPACE), no_restart=True)
    return ledger


def _same_queue(name: str, settings: Settings, model_id: str) -> bool:
    parts = name.split(":", 4)
    return len(parts) == 5 and parts[2] == settings.redis_namespace and parts[4] == model_id
