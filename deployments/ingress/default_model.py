"""The model of prompts that name none: the one an admin made the default, else that of the routing, else of the settings."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from deployments.ingress.model_choice import find_model
from deployments.routing import CurrentRouting
from deployments.settings import ModelSpec, Settings
from pipeline.errors import StoreUnavailable
from pipeline.store.connection import translated_errors
from pipeline.store.default_model import DefaultModelStore

logger = logging.getLogger("ray.serve")

#: How long an ingress replica goes by what it last read, seconds.
REFRESH_S = 1.0


class DefaultModel:
    """Read from the store at most once in ``REFRESH_S``, so that a choice made on any replica soon counts on all."""

    def __init__(
        self,
        settings: Settings,
        store: DefaultModelStore,
        routing: CurrentRouting | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._routing = routing or CurrentRouting(settings)
        self._store = store
        self._clock = clock
        self._chosen: str | None = None
        self._fresh_until = 0.0
        self._reading = asyncio.Lock()

    async def get(self) -> ModelSpec:
        """The default model; of a split the one that most prompts run on."""
        name = await self.name()
        routing = self._routing.now
        model = find_model(self._settings.models, routing.heaviest(name) if name in routing.splits else name)
        assert model is not None
        return model

    async def name(self) -> str:
        """The id of the default model, or the name of a split. While the store is away it is the one last read: reading a status
        must not need the store, and what does need it fails by itself."""
        if self._clock() >= self._fresh_until:
            async with self._reading:
                if self._clock() >= self._fresh_until:
                    await self._read()
        # A model that has left the catalogue since it was chosen is as if none had been.
        if self._chosen and find_model(self._settings.models, self._chosen):
            return self._chosen
        configured = self._settings.resolve_model(None)
        assert configured is not None
        return self._routing.now.default_model or configured.id

    async def set(self, model: ModelSpec) -> None:
        """Make a model the default. Raises StoreUnavailable."""
        with translated_errors():
            await self._store.set(model.id)
        self._chosen, self._fresh_until = model.id, self._clock() + REFRESH_S

    async def _read(self) -> None:
        try:
            with translated_errors():
                self._chosen = await self._store.get()
        except StoreUnavailable:
            logger.warning("the default model cannot be read, %r stays", self._chosen or "the configured one")
        self._fresh_until = self._clock() + REFRESH_S
