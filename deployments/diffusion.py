"""One image model: a Serve deployment around a diffusers pipeline. Holds the leases of its attempts and records them itself."""

from __future__ import annotations

import asyncio
from typing import Protocol

from ray import serve

from deployments.files import open_file_store
from deployments.models import model_source
from deployments.replica.model_replica import ModelReplica
from deployments.replica.pictures import Pictures
from deployments.settings import ModelSpec, Settings
from pipeline.engine import Painter
from pipeline.store.attempts import AttemptStore
from pipeline.store.connection import connect_patient
from pipeline.store.keys import Keys


class PainterFactory(Protocol):
    async def __call__(self, spec: ModelSpec, settings: Settings) -> Painter: ...


async def start_painter(spec: ModelSpec, settings: Settings) -> Painter:
    """Load the pipeline a catalogue entry names. Imports it here: whoever only builds the graph must not pay for torch."""
    from deployments.engines.diffusers import DiffusersEngine

    return await DiffusersEngine.start(spec, model_source(spec, settings))


@serve.deployment(ray_actor_options={"num_cpus": 1}, health_check_period_s=2, health_check_timeout_s=10)
class Diffusion:
    """One replica of an image model. What is said of ``LLM`` about permits holds here, too."""

    async def __init__(
        self, spec: ModelSpec, settings: Settings, painter_factory: PainterFactory = start_painter
    ) -> None:
        self._painter = await painter_factory(spec, settings)
        client = connect_patient(settings.redis_url.get_secret_value())
        self._files = await asyncio.to_thread(open_file_store, client, settings)
        self._pictures = Pictures(
            store=AttemptStore(client, Keys(settings.redis_namespace)),
            painter=self._painter,
            files=self._files,
            model_id=spec.id,
            metadata=spec.images.metadata,
        )
        self._replica = ModelReplica(spec, settings, client=client, work=self._pictures)
        await self._replica.start()

    async def run(self, ref: str, fence: int, alone: bool) -> str:
        """Run one granted attempt; returns how it ended (``deployments.replica.outcome.Outcome``)."""
        return await self._replica.run(ref, fence, alone)

    async def check_health(self) -> None:
        """Called by Serve."""
        await self._replica.check_health(self._painter.check_health)

    async def __del__(self) -> None:
        """Called by Serve when the replica stops, after its requests have ended."""
        if not hasattr(self, "_replica"):
            return  # The constructor failed; Serve has its reason.
        await self._replica.stop()
        self._pictures.close()
        self._files.close()
        await self._painter.shutdown()
