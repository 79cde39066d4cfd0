"""Ends what waits for a model that has left the catalogue: no ledger and no replica would come to it any more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from pipeline.store.catalogue import BATCH, CatalogueStore

logger = logging.getLogger("ray.serve")

#: Seconds between two looks: less than half the time for which the store takes a router at its word (``VOUCHED_US``).
LOOK_S = 20.0


class DepartedModels:
    """Run by every router. While one deploy follows another there are routers with either catalogue, and a model that one of them
    has is nobody's to close."""

    def __init__(self, catalogue: CatalogueStore, model_ids: Sequence[str]) -> None:
        self._catalogue = catalogue
        self._model_ids = model_ids
        self._missed: set[str] = set()

    async def run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> int:
        """Vouch for the own models, and close those that are missed for the second time in a row: after the store was away, the
        other routers must have had their turn. Returns how many prompts were abandoned."""
        missed = set(await self._catalogue.vouch(self._model_ids))
        departed, self._missed = missed & self._missed, missed
        closed = 0
        for model_id in departed:
            last = of_model = await self._catalogue.close_departed(model_id)
            while last == BATCH:
                last = await self._catalogue.close_departed(model_id)
                of_model += last
            if of_model:
                logger.warning(
                    "%s has left the catalogue: %d prompts that waited for it are abandoned", model_id, of_model
                )
            closed += of_model
        return closed
