"""The regular sweep of what died while it was written or deleted. Every ingress replica does it; the store keeps them apart."""

from __future__ import annotations

import asyncio
import random

from pipeline.files.file_store import FileStore

#: Seconds between two looks, give or take a half, so that replicas spread.
EVERY_S = 60.0
#: Files at a time; a full batch is followed by the next one at once.
BATCH = 100


async def sweep_regularly(files: FileStore, *, every_s: float = EVERY_S) -> None:
    """Sweep for ever. Errors end it: it is meant to be kept running by a supervisor."""
    while True:
        if await files.sweep(BATCH) < BATCH:
            await asyncio.sleep(every_s * random.uniform(0.5, 1.5))
