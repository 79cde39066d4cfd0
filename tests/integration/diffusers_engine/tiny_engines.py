"""Engines on the pipelines of ``tests.tiny_pipelines``, and what tests ask of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops

from deployments.engines.diffusers import DiffusersEngine
from deployments.settings import ModelSpec
from pipeline.engine import ImageRequest, Painted, PaintStep
from pipeline.image_parameters import ImageParameters
from tests.waiting import until

ALL = ("text-to-image", "image-to-image", "unconditional-image-generation")
PARAMETERS = ImageParameters(prompt="a red boat", seed=7, steps=3, guidance_scale=5, width=24, height=16)

Start = Callable[..., Awaitable[DiffusersEngine]]


class Engines:
    """Starts engines, and stops them all."""

    def __init__(self) -> None:
        self._started: list[DiffusersEngine] = []

    async def start(self, source: Path, **changes: Any) -> DiffusersEngine:
        engine = await DiffusersEngine.start(spec(source, **changes), str(source))
        self._started.append(engine)
        return engine

    async def stop(self) -> None:
        for engine in self._started:
            await engine.shutdown()


def spec(source: Path, *, capabilities: tuple[str, ...] = ALL, **changes: Any) -> ModelSpec:
    # One thread: several that wait for each other are slower with so little to do, by far on a busy machine.
    engine_args = {"threads": 1, **changes.pop("engine_args", {})}
    entry = {"id": "org/tiny", "engine": "diffusers", "source": str(source), "capabilities": capabilities}
    return ModelSpec.model_validate({**entry, "engine_args": engine_args, **changes})


def request(source: Image.Image | None = None, **changes: Any) -> ImageRequest:
    return ImageRequest(request_id="att", parameters=replace(PARAMETERS, **changes), source=source)


async def events(engine: DiffusersEngine, asked: ImageRequest) -> list[PaintStep | Painted]:
    async with asyncio.timeout(60), aclosing(engine.paint(asked)) as painting:
        return [event async for event in painting]


async def pictures(engine: DiffusersEngine, asked: ImageRequest) -> list[Image.Image]:
    painted = [event for event in await events(engine, asked) if isinstance(event, Painted)]
    return [event.image for event in sorted(painted, key=lambda event: event.index)]


def computed_steps(engine: DiffusersEngine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the steps that the engine's calls take from now on."""
    steps: list[int] = []
    paint = engine._pipelines.paint

    def counted(likeness: Any, orders: Any, on_step: Any) -> Any:
        def step(number: int, of: int, preview: Any) -> None:
            steps.append(number)
            on_step(number, of, preview)

        return paint(likeness, orders, step)

    monkeypatch.setattr(engine._pipelines, "paint", counted)
    return steps


async def withdraw(engine: DiffusersEngine, asked: ImageRequest, *, computed: list[int]) -> None:
    """Ask, and go away after two steps."""
    painting = asyncio.create_task(pictures(engine, asked))
    await until(lambda: len(computed) >= 2, timeout_s=30)
    painting.cancel()
    with suppress(asyncio.CancelledError):
        await painting


def difference(one: Image.Image, other: Image.Image) -> int:
    """Of the most different values, 0 to 255."""
    return max(high for _, high in ImageChops.difference(one, other).getextrema())
