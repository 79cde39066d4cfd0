"""A tiny pipeline, and engines on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deployments.engines.diffusers import DiffusersEngine
from tests import tiny_pipelines
from tests.integration.diffusers_engine.tiny_engines import Engines, Start


@pytest.fixture(scope="module")
def latent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipelines.save_text_to_image(tmp_path_factory.mktemp("latent"))


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    engines = Engines()
    yield engines.start
    await engines.stop()


@pytest.fixture
async def engine(start: Start, latent: Path) -> DiffusersEngine:
    return await start(latent)
