"""One language model: a Serve deployment around an engine. Holds the leases of its attempts and records them itself."""

from __future__ import annotations

import asyncio
from typing import Protocol

from ray import serve

from deployments.engines.parsed import ParsedEngine
from deployments.models import ModelText, model_source
from deployments.replica.histories import Histories
from deployments.replica.model_replica import ModelReplica
from deployments.replica.text_answers import TextAnswers
from deployments.settings import ModelSpec, Settings
from pipeline.engine import Engine
from pipeline.store.attempts import AttemptStore
from pipeline.store.connection import connect_patient
from pipeline.store.history import HistoryReader
from pipeline.store.keys import Keys


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
        keys = Keys(settings.redis_namespace)
        client = connect_patient(settings.redis_url.get_secret_value())
        work = TextAnswers(
            store=AttemptStore(client, keys),
            engine=self._engine,
            histories=Histories(HistoryReader(client, keys), text),
            model_id=spec.id,
        )
        self._replica = ModelReplica(spec, settings, client=client, work=work)
        await self._replica.start()

    async def run(self, ref: str, fence: int, alone: bool) -> str:
        """Run one granted attempt; returns how it ended (``deployments.replica.outcome.Outcome``)."""
        return await self._replica.run(ref, fence, alone)

    async def check_health(self) -> None:
        """Called by Serve."""
        await self._replica.check_health(self._engine.check_health)

    async def __del__(self) -> None:
        """Called by Serve when the replica stops, after its requests have ended."""
        if not hasattr(self, "_replica"):
            return  # The constructor failed; Serve has its reason.
        await self._replica.stop()
        await self._engine.shutdown()
