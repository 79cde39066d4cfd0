"""What a client says of a picture, in both dialects (contract §1.1)."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from deployments.ingress.prompt_request import parse_prompt_request
from pipeline.errors import InvalidField
from pipeline.image_parameters import ImageFormat, Sampler
from pipeline.image_wish import ImageWish, Quality
from pipeline.prompt_type import PromptType

CANARY = "canary-5a1e"


def wish(neutral: Any = None, txt2img: Any = None, **body: Any) -> ImageWish:
    """Without the paths, which have tests of their own."""
    body |= {"prompt": "a boat"}
    if neutral is not None:
        body["parameters"] = {"textToImage": neutral}
    if txt2img is not None:
        body["engineParameters"] = {"stableDiffusion": {"txt2Img": txt2img}}
    found = parse_prompt_request(body).image
    assert found is not None
    return replace(found, paths={})


def refusal(**body: Any) -> str:
    with pytest.raises(InvalidField) as refused:
        parse_prompt_request({"prompt": "a boat", **body})
    assert refused.value.status == 400
    return refused.value.message


def test_the_documents_command_is_taken_as_the_command_line_sends_it():
    sent = {"width": 512, "height": 512, "steps": 20, "guidanceScale": "7.5"}
    assert wish(sent) == ImageWish(width=512, height=512, steps=20, guidance_scale=7.5)


def test_the_documents_engine_parameters_are_taken():
    sent = {
        "width": 768,
        "height": 768,
        "num_inference_steps": 30,
        "guidance_scale": "8.0",
        "negative_prompt": "blurry, low quality",
    }
    assert wish(txt2img=sent) == ImageWish(
        width=768, height=768, steps=30, guidance_scale=8, negative_prompt="blurry, low quality"
    )


def test_every_neutral_parameter():
    sent = {
        "prompt": "a ship",
        "negativePrompt": "storm",
        "styles": ["ink", " blue "],
        "seed": 9,
        "batchSize": 2,
        "numIterations": 3,
        "steps": 11,
        "guidanceScale": 3,
        "width": 64,
        "height": 96,
        "aspectRatio": "16:9",
        "denoisingStrength": 0.5,
        "enableUpscaling": True,
        "restoreFaces": False,
        "scheduler": "Euler a",
        "qualityPreset": "High",
        "format": "JPG",
    }
    assert wish(sent) == ImageWish(
        prompt="a ship",
        negative_prompt="storm",
        styles=("ink", "blue"),
        seed=9,
        batch_size=2,
        iterations=3,
        steps=11,
        guidance_scale=3,
        width=64,
        height=96,
        aspect_ratio=Fraction(16, 9),
        strength=0.5,
        upscale=2,
        scheduler=Sampler.EULER_A,
        quality=Quality.HIGH,
        format=ImageFormat.JPEG,
    )


def test_the_web_uis_whole_body_is_taken():
    sent = {
        "prompt": "never counts",
        "negative_prompt": "storm",
        "styles": [],
        "seed": -1,
        "subseed": -1,
        "subseed_strength": 0,
        "sampler_name": "DPM++ 2M Karras",
        "sampler_index": "Euler",
        "scheduler": "Automatic",
        "batch_size": 1,
        "n_iter": 2,
        "steps": 50,
        "cfg_scale": 7,
        "restore_faces": False,
        "tiling": False,
        "denoising_strength": 0.7,
        "enable_hr": True,
        "hr_scale": 1.5,
        "script_args": [],
        "script_name": None,
        "alwayson_scripts": {},
        "send_images": True,
        "override_settings": {},
    }
    assert wish(txt2img=sent) == ImageWish(
        negative_prompt="storm",
        scheduler=Sampler.DPMPP_2M_KARRAS,
        batch_size=1,
        iterations=2,
        steps=50,
        guidance_scale=7,
        strength=0.7,
        upscale=1.5,
    )


def test_the_engines_parameters_go_before_the_neutral_ones_and_the_web_uis_names_before_others():
    found = wish(
        {"steps": 5, "width": 64, "enableUpscaling": True},
        {"steps": 7, "num_inference_steps": 9, "cfg_scale": 2, "guidance_scale": 3, "enable_hr": False},
    )
    assert (found.steps, found.width, found.guidance_scale, found.upscale) == (7, 64, 2, 1)


@pytest.mark.parametrize(
    "nothing", [{}, {"seed": None}, {"aspectRatio": "", "format": "", "qualityPreset": " ", "seed": "-1"}]
)
def test_what_is_empty_is_absent(nothing: Any):
    assert wish(nothing) == ImageWish()


def test_a_type_alone_asks_for_a_picture_and_text_asks_for_none():
    assert wish(type="Unconditional Image Generation") == ImageWish()
    assert parse_prompt_request({"prompt": "Hi"}).image is None


def test_a_wish_knows_what_its_client_called_things():
    submission = parse_prompt_request(
        {
            "prompt": "x",
            "parameters": {"textToImage": {"batchSize": 1, "WIDTH": 64}},
            "engineParameters": {"stableDiffusion": {"txt2Img": {"num_inference_steps": 3}}},
        }
    )
    assert submission.image is not None
    assert submission.image.paths == {
        "batch_size": "parameters.textToImage.batchSize",
        "width": "parameters.textToImage.width",
        "steps": "engineParameters.stableDiffusion.txt2Img.num_inference_steps",
    }


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("width", 7, "an integer from 8 to 4096 (pixels)"),
        ("height", 4097, "an integer from 8 to 4096 (pixels)"),
        ("width", 100.5, "an integer from 8 to 4096 (pixels)"),
        ("width", "wide", "an integer from 8 to 4096 (pixels)"),
        ("steps", 0, "an integer from 1 to 150"),
        ("steps", 151, "an integer from 1 to 150"),
        ("batchSize", 0, "an integer from 1 to 16"),
        ("batchSize", 10**9, "an integer from 1 to 16"),
        ("numIterations", 17, "an integer from 1 to 16"),
        ("guidanceScale", -0.1, "a number from 0 to 30"),
        ("guidanceScale", 31, "a number from 0 to 30"),
        ("guidanceScale", "NaN", "a number from 0 to 30"),
        ("denoisingStrength", 0, "a number from 0.01 to 1"),
        ("denoisingStrength", 1.1, "a number from 0.01 to 1"),
        ("seed", -2, "an integer from 0 to 9007199254740991, or -1 to have one chosen"),
        ("seed", 2**53, "an integer from 0 to 9007199254740991, or -1 to have one chosen"),
        ("aspectRatio", "16/9", "width:height as two numbers from 1 to 99, such as 16:9"),
        ("aspectRatio", "0:1", "width:height as two numbers from 1 to 99, such as 16:9"),
        ("aspectRatio", "1:1:1", "width:height as two numbers from 1 to 99, such as 16:9"),
        ("restoreFaces", True, "false: no model of this service restores faces"),
        ("enableUpscaling", "perhaps", "true or false"),
        ("format", "gif", "one of png, jpeg, webp, jpg"),
        ("qualityPreset", "divine", "one of draft, standard, high, low, fast, medium, normal, hd, best, ultra"),
        ("styles", ["x"] * 11, "at most 10 texts of up to 100 characters"),
        ("styles", ["x" * 101], "at most 10 texts of up to 100 characters"),
        ("styles", [" "], "at most 10 texts of up to 100 characters"),
        ("negativePrompt", CANARY * 1000, "a string of at most 10000 characters"),
        ("prompt", CANARY * 1000, "a string of at most 10000 characters"),
        ("prompt", [CANARY], "a string of at most 10000 characters"),
    ],
)
def test_what_is_out_of_range_is_named_with_its_limits(field: str, value: Any, allowed: str):
    message = refusal(parameters={"textToImage": {field: value}})
    assert message.startswith(f"parameters.textToImage.{field}: got ")
    assert message.endswith(f"allowed is {allowed}")
    assert CANARY not in message


def test_an_unknown_scheduler_is_named_with_those_there_are():
    message = refusal(parameters={"textToImage": {"scheduler": "magic"}})
    assert message.startswith('parameters.textToImage.scheduler: got "magic", allowed is one of ddim, ddpm')


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tiling", True),
        ("subseed_strength", 0.5),
        ("refiner_checkpoint", "other"),
        ("script_name", "x"),
        ("alwayson_scripts", {"controlnet": {}}),
        ("restore_faces", True),
        ("cfg_scale", 99),
        ("n_iter", 0),
        ("hr_scale", 8),
        ("sampler_name", "magic"),
    ],
)
def test_what_would_make_another_picture_is_refused_and_not_ignored(field: str, value: Any):
    message = refusal(engineParameters={"stableDiffusion": {"txt2Img": {field: value}}})
    assert message.startswith(f"engineParameters.stableDiffusion.txt2Img.{field}: got ")


@pytest.mark.parametrize("value", [3, "x", ["a"], True])
def test_parameters_of_a_wrong_type(value: Any):
    assert refusal(parameters={"textToImage": value}).startswith("parameters.textToImage: got ")
    assert refusal(engineParameters={"stableDiffusion": {"txt2Img": value}}).startswith(
        "engineParameters.stableDiffusion.txt2Img: got "
    )


def test_a_url_is_as_good_as_a_file():
    submission = parse_prompt_request(
        {"prompt": "x", "imageUrl": "https://a.example/b.png", "parameters": {"textToImage": {}}}
    )
    assert submission.type is PromptType.IMAGE_TO_IMAGE
    assert submission.image_url == "https://a.example/b.png"
