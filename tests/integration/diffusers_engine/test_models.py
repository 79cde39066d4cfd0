"""Image models as the diffusers engine loads them: other kinds of pipelines, engine arguments, and what stops a start."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from deployments.engines import diffusers_pipelines
from deployments.engines.diffusers import DiffusersEngine
from deployments.settings import InvalidSettings
from pipeline.engine import Painted, PaintStep
from pipeline.errors import EngineError, PermanentEngineError
from pipeline.image_parameters import ImageTask, Sampler
from tests import tiny_pipelines
from tests.integration.diffusers_engine.tiny_engines import (
    Start,
    computed_steps,
    events,
    pictures,
    request,
    withdraw,
)

#: Importing diffusers and its like warns of torch's and numpy's future.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipelines.save_sdxl(tmp_path_factory.mktemp("sdxl"))


@pytest.fixture(scope="module")
def unconditional(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipelines.save_unconditional(tmp_path_factory.mktemp("unconditional"))


async def test_a_model_of_the_class_of_sdxl_is_loaded_and_paints(start: Start, sdxl: Path):
    engine = await start(sdxl, capabilities=("text-to-image", "image-to-image"))
    told = await events(engine, request(negative_prompt="grey", width=30, height=20))
    assert isinstance(told[-1], Painted)
    assert told[-1].image.size == (30, 20)
    assert any(event.preview for event in told if isinstance(event, PaintStep))
    source = Image.new("RGB", (20, 20), "green")
    (image,) = await pictures(engine, request(source, task=ImageTask.IMAGE, width=None, height=None))
    assert image.size == (20, 20)


async def test_half_precision_and_the_settings_that_save_memory(start: Start, sdxl: Path):
    engine = await start(
        sdxl,
        capabilities=("text-to-image",),
        engine_args={
            "dtype": "bfloat16",
            "attention": "slicing",
            "vae_slicing": True,
            "vae_tiling": True,
            "channels_last": True,
        },
    )
    assert len(await pictures(engine, request(images=2))) == 2
    assert engine._pipelines._base.unet.dtype is torch.bfloat16


async def test_memory_that_is_full_in_mid_call_leaves_no_decoder_in_another_precision(
    start: Start, sdxl: Path, monkeypatch: pytest.MonkeyPatch
):
    engine = await start(
        sdxl,
        capabilities=("text-to-image", "image-to-image"),
        engine_args={"dtype": "bfloat16"},
        images={"previews": 0},
    )
    vae = engine._pipelines._base.vae
    assert vae.config.force_upcast
    lifted: list[torch.dtype] = []

    def full(*_: Any, **__: Any) -> Any:
        lifted.append(vae.dtype)
        raise torch.OutOfMemoryError

    source = Image.new("RGB", (24, 16), "green")
    with monkeypatch.context() as patch:
        patch.setattr(vae, "encode", full)
        with pytest.raises(EngineError, match="out of memory"):
            await pictures(engine, request(source, task=ImageTask.IMAGE))
    assert lifted == [torch.float32]
    assert len(await pictures(engine, request())) == 1


async def test_a_picture_and_words_share_the_weights(start: Start, sdxl: Path):
    engine = await start(sdxl, capabilities=("text-to-image", "image-to-image"))
    one, other = (engine._pipelines._uses[task] for task in (ImageTask.TEXT, ImageTask.IMAGE))
    assert one is not other
    assert all(
        one.components[name] is other.components[name] for name in ("unet", "vae", "text_encoder", "text_encoder_2")
    )


@pytest.mark.parametrize(("patch_size", "multiple"), [(None, 8), (1, 8), (2, 16)])
def test_sides_are_multiples_of_what_a_transformer_cuts_into_patches(patch_size: int | None, multiple: int):
    transformer = SimpleNamespace(config=SimpleNamespace(patch_size=patch_size))
    assert diffusers_pipelines._multiple(SimpleNamespace(vae_scale_factor=8, transformer=transformer)) == multiple


async def test_a_model_without_words_tells_every_step_and_stops_when_nobody_waits(
    start: Start, unconditional: Path, monkeypatch: pytest.MonkeyPatch
):
    engine = await start(unconditional, capabilities=("unconditional-image-generation",))
    asked = request(task=ImageTask.NOTHING, guidance_scale=1.0, steps=4)
    told = [event for event in await events(engine, asked) if isinstance(event, PaintStep)]
    assert [(event.step, event.steps) for event in told] == [(step, 4) for step in range(1, 5)]
    steps = computed_steps(engine, monkeypatch)
    await withdraw(engine, request(task=ImageTask.NOTHING, guidance_scale=1.0, steps=150), computed=steps)
    # Behind it in the same thread: it begins once the first has ended.
    await events(engine, asked)
    assert steps[-4:] == [1, 2, 3, 4]
    assert len(steps) < 150


@pytest.mark.parametrize("sampler", [Sampler.EULER, Sampler.HEUN, Sampler.DDIM])
async def test_a_loop_that_was_written_for_one_scheduler_gets_no_other(
    start: Start, unconditional: Path, sampler: Sampler
):
    engine = await start(unconditional, capabilities=("unconditional-image-generation",))
    asked = request(task=ImageTask.NOTHING, guidance_scale=1.0, scheduler=sampler)
    allowed = f"scheduler: got {sampler}, allowed for this model is its own, DDPMScheduler"
    with pytest.raises(PermanentEngineError, match=allowed):
        await events(engine, asked)
    own = request(task=ImageTask.NOTHING, guidance_scale=1.0, scheduler=Sampler.DDPM)
    assert len(await pictures(engine, own)) == 1


async def test_a_model_without_words_paints_what_it_was_made_for(start: Start, unconditional: Path):
    engine = await start(unconditional, capabilities=("unconditional-image-generation",))
    (image,) = await pictures(engine, request(task=ImageTask.NOTHING, guidance_scale=1.0, width=20, height=12))
    assert image.size == (20, 12)


async def test_a_capability_that_the_pipeline_has_not_stops_the_start(start: Start, unconditional: Path):
    with pytest.raises(
        InvalidSettings, match=r"org/tiny: capabilities: got 'text-to-image', which the pipeline DDPMPipeline has not"
    ):
        await start(unconditional, capabilities=("text-to-image",))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": "float8"}, "dtype"),
        ({"steps": 3}, "steps"),
        ({"device": "toaster"}, "device"),
        ({"lora": [{"scale": 2}]}, r"lora.0.source"),
        ({"scheduler": "magic"}, "scheduler"),
        ({"offload": "model"}, "offload: got 'model', allowed with image-to-image is 'none'"),
    ],
)
async def test_a_wrong_engine_argument_is_named(start: Start, latent: Path, arguments: Any, message: str):
    with pytest.raises(InvalidSettings, match=rf"models: org/tiny: engine_args: .*{message}"):
        await start(latent, engine_args=arguments)


async def test_a_lora_without_the_package_it_needs_is_named(start: Start, latent: Path, tmp_path: Path):
    with pytest.raises(InvalidSettings, match=r"engine_args: lora\.0: "):
        await start(latent, engine_args={"lora": [{"source": str(tmp_path)}]})


async def test_a_pickle_is_never_loaded(start: Start, latent: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    shutil.copytree(latent, copy)
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.unlink()
    (copy / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(OSError, match="safetensors"):
        await start(copy)


async def test_the_fingerprint_is_the_models(start: Start, latent: Path):
    same = {(await start(latent)).fingerprint for _ in range(2)}
    other = (await start(latent, engine_args={"dtype": "bfloat16"})).fingerprint
    assert len(same) == 1
    assert other not in same


async def test_a_scheduler_that_does_not_fit_the_model_is_refused_for_good(
    engine: DiffusersEngine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(type(engine._pipelines._own_scheduler), "_compatibles", [])
    with pytest.raises(PermanentEngineError, match="scheduler: got euler, allowed for this model is ddim"):
        await events(engine, request(scheduler=Sampler.EULER))
