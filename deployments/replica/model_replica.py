"""The frame of every model replica, whatever its engine: attempts, heartbeat, doorbell, drain, and its end."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable

import ray
from ray import serve
from redis.asyncio import Redis

from deployments.replica.attempts import AttemptRunner
from deployments.replica.drain import Drain
from deployments.replica.heartbeat import Heartbeat
from deployments.replica.work import Work
from deployments.settings import ModelSpec, Settings
from deployments.tasks import Supervisor
from pipeline.errors import EngineDead
from pipeline.store.attempts import AttemptStore
from pipeline.store.bells import listen
from pipeline.store.keys import Keys

logger = logging.getLogger("ray.serve")


class ModelReplica:
    """Made in the constructor of a Serve deployment, once its engine is there."""

    def __init__(self, spec: ModelSpec, settings: Settings, *, client: Redis, work: Work) -> None:
        """
        Args:
            client: a patient one of the store (``connect_patient``).
        """
        self._supervisor = Supervisor()
        self._client = client
        self._name = serve.get_replica_context().replica_id.unique_id
        self._keys = Keys(settings.redis_namespace)
        node = ray.get_runtime_context().get_node_id()
        self._runner = AttemptRunner(
            store=AttemptStore(client, self._keys),
            work=work,
            model_id=spec.id,
            replica=self._name,
            node=node,
            permits=spec.permits,
            lease_s=settings.lease_s,
            supervisor=self._supervisor,
            on_engine_death=die,
            on_offer=lambda: self._heartbeat.beat(),
        )
        self._heartbeat = Heartbeat(
            redis_url=settings.redis_url.get_secret_value(),
            keys=self._keys,
            model_id=spec.id,
            replica=self._name,
            node=node,
            lease_s=settings.lease_s,
            interval_s=settings.heartbeat_s,
            leases=self._runner.leases,
            permits_offered=lambda: self._runner.permits.offered,
            permits_used=lambda: self._runner.permits_used,
            on_lost=self._runner.lose,
            on_standing=lambda standing: self._drain.heard(standing),
        )
        self._drain = Drain(self._runner, drain_s=spec.drain_s, supervisor=self._supervisor, beat=self._heartbeat.beat)

    async def start(self) -> None:
        """From here on the routers send work."""
        self._supervisor.keep_running(self._answer_doorbell, name="doorbell")
        await self._heartbeat.start()

    async def _answer_doorbell(self) -> None:
        async for ring in listen(self._client, [self._keys.doorbell(self._name)]):
            if ring is None:
                await self._runner.look_again_at_all()
            elif ring[1] in (b"leave", b"stay"):
                # The heartbeat's answer says which it is by now.
                self._heartbeat.beat()
            else:
                await self._runner.look_again(ring[1].decode())

    async def run(self, ref: str, fence: int, alone: bool) -> str:
        """Run one granted attempt; returns how it ended (``deployments.replica.outcome.Outcome``)."""
        return await self._runner.run(ref, fence, alone)

    async def check_health(self, engine: Callable[[], Awaitable[None]]) -> None:
        """Called by Serve. A dead engine is not reported but acted on: waiting for three failed checks would cost 30 s."""
        try:
            await engine()
        except EngineDead:
            die()
        if not self._heartbeat.is_alive:
            raise RuntimeError("the heartbeat thread has ended")

    async def stop(self) -> None:
        """Take no more work and hand back what is left."""
        await self._heartbeat.stop()
        await self._runner.hand_back_all()
        await self._supervisor.stop()


def die() -> None:
    """The engine is gone, and with it the replica."""
    logger.error("the engine is gone; this replica ends so that another one takes its place")
    os._exit(1)
