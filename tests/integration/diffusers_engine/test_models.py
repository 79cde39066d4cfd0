"""Image models as the diffusers engine loads them: other kinds of pipelines, engine arguments, and what stops a start."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from deployments.engines.diffusers import DiffusersEngine
from deployments.settings import InvalidSettings
from pipeline.engine import Painted, PaintStep
from pipeline.errors import PermanentEngineError
from pipeline.image_parameters import ImageTask, Sampler
from tests import tiny_pipelines
from tests.integration.diffusers_engine.tiny_engines import Start, events, pictures, request

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
