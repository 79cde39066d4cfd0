"""One language model: a Serve deployment around an engine. Holds the leases of its attempts and records them itself."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Protocol

import ray
from ray import serve

from deployments.engines.parsed import ParsedEngine
from deployments.models import ModelText, model_source
from deployments.replica.attempts import AttemptRunner
from deployments.replica.drain import Drain
from deployments.replica.heartbeat import Heartbeat
from deployments.replica.histories import Histories
from deployments.settings import ModelSpec, Settings
from deployments.tasks import Supervisor
from pipeline.engine import Engine
from pipeline.errors import EngineDead
from pipeline.store.attempts import AttemptStore
from pipeline.store.bells import listen
from pipeline.store.connection import connect_patient
from pipeline.store.history import HistoryReader
from pipeline.store.keys import Keys

logger = logging.getLogger("ray.serve")


class EngineFactory(Protocol):
    async def __call__(self, spec: ModelSpec, settings: Settings) -> Engine: ...


async def start_engine(spec: ModelSpec, settings: Settings) -> Engine:
    """Load the engine a catalogue entry names. Imports it here: an ingress must not pay for torch."""
    if spec.engine == "scripted":
        from deployments.engines.scripted import ScriptedEngine, scripted_parsers

        return ParsedEngine(ScriptedEngine(spec), lambda: scripted_parsers(spec))
    from deployments.engines.vllm import VllmEngine

    engine = await VllmEngine.start(spec, model_source(spec, settings))
    # Now: a parser that does not exist must not be found out by a prompt.
    parsers = await asyncio.to_thread(engine.parsers, spec)
    return ParsedEngine(engine, lambda: parsers)


@serve.deployment(ray_actor_options={"num_cpus": 1}, health_check_period_s=2, health_check_timeout_s=10)
class LLM:
    """One replica of a language model.

    ``max_ongoing_requests`` must exceed the model's permits, so that a full replica still answers; the permits themselves are
    enforced here (DESIGN §3.3).
    """

    async def __init__(self, spec: ModelSpec, settings: Settings, engine_factory: EngineFactory = start_engine) -> None:
        self._engine = await engine_factory(spec, settings)
        text = await asyncio.to_thread(ModelText.open, spec, settings)
        self._supervisor = Supervisor()
        self._replica = serve.get_replica_context().replica_id.unique_id
        node = ray.get_runtime_context().get_node_id()
        keys = Keys(settings.redis_namespace)
        client = connect_patient(settings.redis_url.get_secret_value())
        self._runner = AttemptRunner(
            store=AttemptStore(client, keys),
            engine=self._engine,
            histories=Histories(HistoryReader(client, keys), text),
            model_id=spec.id,
            replica=self._replica,
            node=node,
            permits=spec.permits,
            lease_s=settings.lease_s,
            supervisor=self._supervisor,
            on_engine_death=self._die,
        )
        self._heartbeat = Heartbeat(
            redis_url=settings.redis_url.get_secret_value(),
            keys=keys,
            model_id=spec.id,
            replica=self._replica,
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

        async def answer_doorbell() -> None:
            async for ring in listen(client, [keys.doorbell(self._replica)]):
                if ring is None:
                    await self._runner.look_again_at_all()
                elif ring[1] in (b"leave", b"stay"):
                    # The heartbeat's answer says which it is by now.
                    self._heartbeat.beat()
                else:
                    await self._runner.look_again(ring[1].decode())

        self._supervisor.keep_running(answer_doorbell, name="doorbell")
        # Last: from here on the routers send work.
        await self._heartbeat.start()

    async def run(self, ref: str, fence: int, alone: bool) -> str:
        """Run one granted attempt; returns how it ended (``deployments.replica.attempts.Outcome``)."""
        return await self._runner.run(ref, fence, alone)

    async def check_health(self) -> None:
        """Called by Serve. A dead engine is not reported but acted on: waiting for three failed checks would cost 30 s."""
        try:
            await self._engine.check_health()
        except EngineDead:
            self._die()
        if not self._heartbeat.is_alive:
            raise RuntimeError("the heartbeat thread has ended")

    def _die(self) -> None:
        logger.error("the engine is gone; this replica ends so that another one takes its place")
        os._exit(1)

    async def __del__(self) -> None:
        """Called by Serve when the replica stops, after its requests have ended."""
        if not hasattr(self, "_heartbeat"):
            return  # The constructor failed; Serve has its reason.
        await self._heartbeat.stop()
        await self._runner.hand_back_all()
        await self._supervisor.stop()
        await self._engine.shutdown()
