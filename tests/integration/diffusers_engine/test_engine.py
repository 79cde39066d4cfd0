"""The diffusers engine on a pipeline of a few thousand random weights: what it paints, in which calls, and what goes wrong."""

from __future__ import annotations

import asyncio
import io
import logging
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from deployments.engines import diffusers as diffusers_engine
from deployments.engines import diffusers_pipelines, previews
from deployments.engines.diffusers import DiffusersEngine
from deployments.settings import ImageSpec
from pipeline.engine import Painted, PaintStep
from pipeline.errors import EngineDead, EngineError, PermanentEngineError
from pipeline.image_parameters import ImageTask, Sampler
from pipeline.image_wish import MOST_SIDE
from tests.integration.diffusers_engine.tiny_engines import (
    Start,
    computed_steps,
    difference,
    events,
    pictures,
    request,
    withdraw,
)
from tests.waiting import until

#: Importing diffusers and its like warns of torch's and numpy's future.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


async def test_the_same_seed_is_the_same_picture_and_another_is_another(engine: DiffusersEngine):
    (one,), (again,), (other,) = [await pictures(engine, request(seed=seed)) for seed in (7, 7, 8)]
    assert one.tobytes() == again.tobytes()
    assert difference(one, other) > 8


async def test_the_next_pictures_of_a_request_have_the_next_seeds(engine: DiffusersEngine):
    painted = [event for event in await events(engine, request(images=2)) if isinstance(event, Painted)]
    assert sorted((event.index, event.seed) for event in painted) == [(0, 7), (1, 8)]
    (alone,) = await pictures(engine, request(seed=8))
    assert difference(max(painted, key=lambda event: event.index).image, alone) <= 1


async def test_words_and_what_is_not_to_be_seen_change_the_picture(engine: DiffusersEngine):
    (one,) = await pictures(engine, request())
    (other,) = await pictures(engine, request(prompt="z" * 9))
    (negative,) = await pictures(engine, request(negative_prompt="z" * 9))
    (unguided,) = await pictures(engine, request(guidance_scale=1.0))
    assert len({image.tobytes() for image in (one, other, negative, unguided)}) == 4


@pytest.mark.parametrize("size", [(24, 16), (20, 17), (9, 31)])
async def test_a_picture_is_exactly_as_large_as_it_was_asked_for(engine: DiffusersEngine, size: tuple[int, int]):
    (image,) = await pictures(engine, request(width=size[0], height=size[1]))
    assert image.size == size


async def test_what_is_cropped_is_the_middle_of_the_next_larger_picture(engine: DiffusersEngine):
    (whole,) = await pictures(engine, request(width=24, height=16))
    (part,) = await pictures(engine, request(width=20, height=16))
    assert part.tobytes() == whole.crop((2, 0, 22, 16)).tobytes()


async def test_every_step_is_told_and_some_are_shown(engine: DiffusersEngine):
    told = [event for event in await events(engine, request(steps=5)) if isinstance(event, PaintStep)]
    assert [(event.step, event.steps) for event in told] == [(step, 5) for step in range(1, 6)]
    shown = [event.preview for event in told if event.preview]
    assert 1 <= len(shown) <= 4
    for preview in shown:
        assert len(preview) <= previews.MOST_BYTES
        with Image.open(io.BytesIO(preview)) as image:
            assert image.format == "WEBP"
            assert max(image.size) <= previews.SIDE


async def test_previews_can_be_switched_off(start: Start, latent: Path):
    engine = await start(latent, images={"previews": 0})
    assert not any(event.preview for event in await events(engine, request()) if isinstance(event, PaintStep))


async def test_a_model_whose_previews_fail_paints(engine: DiffusersEngine, monkeypatch: pytest.MonkeyPatch):
    def strange(*_: Any) -> Any:
        raise AttributeError("block_out_channels")

    monkeypatch.setattr(engine._pipelines._previewer, "_decode", strange)
    assert len(await pictures(engine, request(steps=5))) == 1


def test_a_preview_is_never_large():
    noise = Image.effect_noise((512, 512), 200).convert("RGB")
    data = previews.webp(noise)
    assert len(data) <= previews.MOST_BYTES


async def test_it_starts_from_another_picture(engine: DiffusersEngine):
    source = Image.new("RGB", (30, 18), "blue")
    asked = request(source, task=ImageTask.IMAGE, width=None, height=None)
    (little,) = await pictures(engine, replace(asked, parameters=replace(asked.parameters, strength=0.01)))
    (much,) = await pictures(engine, replace(asked, parameters=replace(asked.parameters, strength=1.0)))
    assert little.size == much.size == (30, 18)
    assert difference(little, much) > 0
    (sized,) = await pictures(engine, request(source, task=ImageTask.IMAGE, width=13, height=50))
    assert sized.size == (13, 50)


async def test_a_large_picture_to_start_from_is_made_smaller(start: Start, latent: Path):
    engine = await start(latent, images={"width": 16, "height": 16, "max_pixels": 1024})
    source = Image.new("RGB", (1000, 500))
    (image,) = await pictures(engine, request(source, task=ImageTask.IMAGE, width=None, height=None))
    assert image.size == (45, 22)


def test_a_long_line_to_start_from_is_no_larger_than_any_other_picture():
    rules = ImageSpec(max_pixels=1024 * 1024)
    for size in ((16_000_000, 1), (1, 16_000_000), (20_000, 50)):
        width, height = diffusers_engine._size(request(Image.new("1", size), task=ImageTask.IMAGE, width=None), rules)
        assert max(width, height) == MOST_SIDE
        assert width * height <= rules.max_pixels


@pytest.mark.parametrize("size", [(30, 18), (32, 18), (31, 24)])
def test_what_a_picture_starts_from_lies_where_the_picture_is_cut_out(size: tuple[int, int]):
    source = Image.effect_noise(size, 90).convert("RGB")
    canvas = diffusers_pipelines._amid(source, size, (32, 24))
    assert canvas.size == (32, 24)
    assert diffusers_engine._cropped(canvas, *size).tobytes() == source.tobytes()
    # Around it nothing begins that is not in it.
    assert canvas.getpixel((0, 0)) == source.getpixel((0, 0))
    assert canvas.getpixel((31, 23)) == source.getpixel((size[0] - 1, size[1] - 1))


async def test_a_scheduler_of_few_steps_takes_no_more(engine: DiffusersEngine):
    with pytest.raises(PermanentEngineError, match="steps: got 51, allowed with this scheduler is 1 to 50"):
        await events(engine, request(scheduler=Sampler.LCM, steps=51))
    # Of another picture's steps only a share is taken, which must leave one.
    source = Image.new("RGB", (24, 16), "blue")
    for scheduler in (Sampler.LCM, Sampler.DDIM):
        asked = request(source, task=ImageTask.IMAGE, scheduler=scheduler, steps=20, strength=0.01)
        assert len(await pictures(engine, asked)) == 1


async def test_nothing_is_enough_to_paint_from(engine: DiffusersEngine):
    (image,) = await pictures(engine, request(task=ImageTask.NOTHING, prompt="", guidance_scale=1.0))
    assert image.size == (24, 16)


@pytest.mark.parametrize("sampler", Sampler)
async def test_every_scheduler_paints(engine: DiffusersEngine, sampler: Sampler):
    *_, painted = await events(engine, request(scheduler=sampler, steps=2))
    assert isinstance(painted, Painted)
    assert painted.scheduler == sampler.value


async def test_without_a_wish_it_is_the_models_own_scheduler_also_after_another(engine: DiffusersEngine):
    *_, before = await events(engine, request())
    await events(engine, request(scheduler=Sampler.EULER))
    *_, after = await events(engine, request())
    assert isinstance(before, Painted)
    assert isinstance(after, Painted)
    assert before.scheduler == "ddim"
    assert before.image.tobytes() == after.image.tobytes()


async def test_an_operator_may_choose_another_scheduler(start: Start, latent: Path):
    engine = await start(latent, engine_args={"scheduler": "Euler a"})
    *_, painted = await events(engine, request())
    assert isinstance(painted, Painted)
    assert painted.scheduler == "euler-a"


async def test_a_prompt_with_more_words_than_the_model_reads_says_so(engine: DiffusersEngine):
    *_, short = await events(engine, request(prompt="boat"))
    *_, long = await events(engine, request(prompt="boat " * 20))
    assert isinstance(short, Painted)
    assert isinstance(long, Painted)
    assert (short.cut_short, long.cut_short) == (False, True)


async def test_no_text_of_a_prompt_is_logged(
    engine: DiffusersEngine, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
):
    caplog.set_level(logging.DEBUG)
    await events(engine, request(prompt="canary " * 30, negative_prompt="canary " * 30))
    output = capfd.readouterr()
    assert "canary" not in caplog.text + output.out + output.err


class Calls:
    """Calls of a pipeline, held until a test lets them go."""

    def __init__(self, engine: DiffusersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.groups: list[list[str]] = []
        self.begun = threading.Event()
        self.go = threading.Event()
        self.failing: list[Exception] = []
        pipelines = engine._pipelines
        paint = pipelines.paint

        def held(likeness: Any, orders: Any, on_step: Any) -> Any:
            self.groups.append([order.prompt for order in orders])
            self.begun.set()
            assert self.go.wait(30)
            if self.failing:
                raise self.failing.pop(0)
            return paint(likeness, orders, on_step)

        monkeypatch.setattr(pipelines, "paint", held)


@pytest.fixture
def calls(engine: DiffusersEngine, monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(engine, monkeypatch)


async def test_what_waits_together_and_is_alike_is_painted_in_one_call(engine: DiffusersEngine, calls: Calls):
    painting = [asyncio.create_task(pictures(engine, request(prompt="a")))]
    await until(calls.begun.is_set)
    asked = [request(prompt="b", seed=3), request(prompt="c", steps=2), request(prompt="d", seed=4, images=2)]
    painting += [asyncio.create_task(pictures(engine, one)) for one in asked]
    await until(lambda: len(engine._queue) == 4)
    calls.go.set()
    _, (second,), _, fourth = await asyncio.gather(*painting)
    assert calls.groups == [["a"], ["b", "d", "d"], ["c"]]
    # Each has its own words and its own seed, whoever it shares the call with.
    assert difference(second, (await pictures(engine, asked[0]))[0]) <= 1
    assert difference(fourth[1], (await pictures(engine, request(prompt="d", seed=5)))[0]) <= 1


async def test_the_event_loop_goes_on_while_it_paints(engine: DiffusersEngine, calls: Calls):
    painting = asyncio.create_task(pictures(engine, request()))
    await until(calls.begun.is_set)
    await asyncio.wait_for(engine.check_health(), 1)
    calls.go.set()
    await painting


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_call_stops_at_its_next_step_when_nobody_waits_for_it(
    engine: DiffusersEngine, monkeypatch: pytest.MonkeyPatch
):
    steps = computed_steps(engine, monkeypatch)
    await withdraw(engine, request(steps=150), computed=steps)
    # Behind it in the same thread: it begins once the first has ended.
    await pictures(engine, request(steps=1))
    assert steps[-1] == 1
    assert len(steps) < 150


async def test_a_call_goes_on_for_those_who_still_wait(engine: DiffusersEngine, calls: Calls):
    first = asyncio.create_task(pictures(engine, request(prompt="a")))
    await until(calls.begun.is_set)
    left, stays = (asyncio.create_task(pictures(engine, request(prompt=name, steps=2))) for name in "bc")
    await until(lambda: len(engine._queue) == 2)
    calls.go.set()
    await until(lambda: len(calls.groups) == 2, timeout_s=30)
    await cancelled(left)
    assert len(await stays) == 1
    await first


async def test_what_is_withdrawn_before_its_turn_is_not_begun(engine: DiffusersEngine, calls: Calls):
    first = asyncio.create_task(pictures(engine, request(prompt="a")))
    await until(calls.begun.is_set)
    waiting = asyncio.create_task(pictures(engine, request(prompt="b", images=4)))
    await until(lambda: len(engine._queue) == 4)
    await cancelled(waiting)
    calls.go.set()
    await first
    assert (len(engine._queue), calls.groups) == (0, [["a"]])


async def test_pictures_that_are_too_many_for_the_memory_are_painted_one_by_one(engine: DiffusersEngine, calls: Calls):
    calls.failing = [diffusers_pipelines.OutOfMemory()]
    calls.go.set()
    assert len(await pictures(engine, request(images=3))) == 3
    assert [len(group) for group in calls.groups] == [3, 1, 1, 1]


FULL = RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: not enough memory: you tried to …")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"),
        FULL,
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"),
        MemoryError(),
    ],
)
def test_every_way_to_say_that_the_memory_is_full_is_understood(error: Exception):
    assert diffusers_pipelines._is_out_of_memory(error)
    assert not diffusers_pipelines._is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


async def test_a_picture_that_is_too_large_for_the_memory_fails_with_a_reason_and_the_engine_goes_on(
    engine: DiffusersEngine, monkeypatch: pytest.MonkeyPatch
):
    unet = engine._pipelines._base.unet

    def full(*_: Any, **__: Any) -> Any:
        raise FULL

    with monkeypatch.context() as patch:
        patch.setattr(unet, "forward", full)
        with pytest.raises(EngineError, match="the model ran out of memory painting 24 x 16 pixels"):
            await events(engine, request())
    await engine.check_health()
    assert len(await pictures(engine, request())) == 1


async def test_an_unexpected_error_fails_its_own_call_and_no_other(engine: DiffusersEngine, calls: Calls):
    calls.failing = [ZeroDivisionError()]
    calls.go.set()
    with pytest.raises(ZeroDivisionError):
        await events(engine, request(images=8))
    assert len(engine._queue) == 0
    assert len(await pictures(engine, request())) == 1


async def test_a_lost_device_is_the_end_of_the_engine(engine: DiffusersEngine, calls: Calls):
    calls.failing = [EngineDead()]
    first = asyncio.create_task(events(engine, request(prompt="a")))
    await until(calls.begun.is_set)
    second = asyncio.create_task(events(engine, request(prompt="b")))
    await until(lambda: len(engine._queue) == 1)
    calls.go.set()
    for painting in (first, second):
        with pytest.raises(EngineDead):
            await painting
    for call in (engine.check_health(), events(engine, request())):
        with pytest.raises(EngineDead):
            await call


async def test_a_shutdown_ends_what_is_being_painted(start: Start, latent: Path):
    engine = await start(latent)
    painting = asyncio.create_task(events(engine, request(steps=150, width=64, height=64)))
    await until(lambda: bool(engine._orders))
    await asyncio.wait_for(engine.shutdown(), 30)
    with pytest.raises(EngineDead):
        await painting
