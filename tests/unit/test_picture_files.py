import io
from dataclasses import replace

import pytest
from PIL import Image

from pipeline.files.images import decode
from pipeline.files.pictures import describe_parameters, encode
from pipeline.image_parameters import ImageFormat, ImageParameters, ImageTask, Sampler

PARAMETERS = ImageParameters(
    prompt="ein Boot, 船",
    negative_prompt="storm",
    seed=7,
    steps=20,
    guidance_scale=7.5,
    width=30,
    height=20,
    scheduler=Sampler.EULER_A,
)
PICTURE = Image.linear_gradient("L").resize((30, 20)).convert("RGB")


def described(parameters: ImageParameters = PARAMETERS) -> str:
    return describe_parameters(parameters, seed=8, size=(30, 20), model_id="org/painter", scheduler="ddim")


@pytest.mark.parametrize("kind", ImageFormat)
def test_a_file_is_of_the_format_and_the_size_that_was_asked_for(kind: ImageFormat):
    with Image.open(io.BytesIO(encode(PICTURE, replace(PARAMETERS, format=kind)))) as image:
        assert image.get_format_mimetype() == kind.media_type
        assert image.size == (30, 20)


def test_a_png_loses_nothing():
    assert decode(encode(PICTURE, PARAMETERS)).tobytes() == PICTURE.tobytes()


@pytest.mark.parametrize(("times", "size"), [(2, (60, 40)), (1.5, (45, 30))])
def test_upscaling_makes_the_file_larger(times: float, size: tuple[int, int]):
    assert decode(encode(PICTURE, replace(PARAMETERS, upscale=times))).size == size


def test_a_png_tells_how_it_was_painted():
    with Image.open(io.BytesIO(encode(PICTURE, PARAMETERS, text=described()))) as image:
        assert image.info["parameters"] == (
            "ein Boot, 船\nNegative prompt: storm\n"
            "Steps: 20, Sampler: euler-a, CFG scale: 7.5, Seed: 8, Size: 30x20, Model: org/painter"
        )


@pytest.mark.parametrize("kind", ImageFormat)
def test_without_a_text_nothing_of_the_prompt_is_in_the_file(kind: ImageFormat):
    data = encode(PICTURE, replace(PARAMETERS, format=kind))
    assert b"Boot" not in data
    assert "parameters" not in Image.open(io.BytesIO(data)).info


def test_only_what_was_used_is_told():
    text = described(
        replace(PARAMETERS, negative_prompt="", scheduler=None, task=ImageTask.IMAGE, strength=0.5, upscale=2)
    )
    assert text == (
        "ein Boot, 船\nSteps: 20, Sampler: ddim, CFG scale: 7.5, Seed: 8, Size: 30x20, Model: org/painter, "
        "Denoising strength: 0.5, Hires upscale: 2, Hires upscaler: Lanczos"
    )
