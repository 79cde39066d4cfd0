"""How a picture is asked for in the body of POST /prompt-svc/prompt (contract §1.1): ``parameters.textToImage`` and the web UI's
``engineParameters.stableDiffusion.txt2Img``, both into one ``ImageWish``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from deployments.ingress.accepted import Limited, Only, one_or_list
from deployments.ingress.fields import Boolean, Integer, Number, PrivateText, Strings, Text, WireModel
from pipeline.image_parameters import MOST_SEED, ImageFormat, Sampler
from pipeline.image_wish import (
    LEAST_SIDE,
    MOST_GUIDANCE,
    MOST_IMAGES,
    MOST_SIDE,
    MOST_STEPS,
    MOST_UPSCALE,
    ImageWish,
    Quality,
)

#: Of a negative prompt, and of a text in place of the prompt.
MOST_CHARACTERS = 10_000
MOST_STYLES, MOST_STYLE = 10, 100
#: What ``enableUpscaling`` and ``enable_hr`` multiply width and height by, unless ``hr_scale`` says otherwise.
UPSCALE = 2.0

_RATIO = r"^[1-9][0-9]?:[1-9][0-9]?$"
_RATIO_RULE = "width:height as two numbers from 1 to 99, such as 16:9"
_STYLES_RULE = f"at most {MOST_STYLES} texts of up to {MOST_STYLE} characters"
_FACES_RULE = "false: no model of this service restores faces"
_FORMATS: Mapping[str, ImageFormat] = {**{kind.value: kind for kind in ImageFormat}, "jpg": ImageFormat.JPEG}
_QUALITIES: Mapping[str, Quality] = {
    **{quality.value: quality for quality in Quality},
    "low": Quality.DRAFT,
    "fast": Quality.DRAFT,
    "medium": Quality.STANDARD,
    "normal": Quality.STANDARD,
    "hd": Quality.HIGH,
    "best": Quality.HIGH,
    "ultra": Quality.HIGH,
}


def _one_of(names: Mapping[str, Any]) -> Callable[[str], Any]:
    def read(value: str) -> Any:
        if value.lower() not in names:
            raise ValueError("not one of them")
        return names[value.lower()]

    return read


def _only_false(value: bool) -> bool:
    if value:
        raise ValueError(_FACES_RULE)
    return value


def _only_nothing(value: object) -> None:
    """What would change the picture and is not to be had is refused, in place of another picture than was asked for."""
    if value not in (None, False, 0, "", "None", [], {}):
        raise ValueError("not supported")


def _ratio(value: str) -> Fraction:
    width, _, height = value.partition(":")
    return Fraction(int(width), int(height))


def _styles(value: tuple[str, ...]) -> tuple[str, ...]:
    styles = tuple(style.strip() for style in value)
    if len(styles) > MOST_STYLES or not all(1 <= len(style) <= MOST_STYLE for style in styles):
        raise ValueError(_STYLES_RULE)
    return styles


def _minus_one_is_absent(value: object) -> object:
    """The web UI's way to have a number chosen."""
    return None if value in (-1, "-1") else value


def _blank_is_absent(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


_WORDS = {"max_length": MOST_CHARACTERS, "description": f"a string of at most {MOST_CHARACTERS} characters"}
Words = Annotated[PrivateText, Limited(maxLength=MOST_CHARACTERS), Field(**_WORDS)]  # type: ignore[arg-type]
Side = Annotated[
    Integer,
    Field(ge=LEAST_SIDE, le=MOST_SIDE, description=f"an integer from {LEAST_SIDE} to {MOST_SIDE} (pixels)"),
]
Steps = Annotated[Integer, Field(ge=1, le=MOST_STEPS, description=f"an integer from 1 to {MOST_STEPS}")]
Images = Annotated[Integer, Field(ge=1, le=MOST_IMAGES, description=f"an integer from 1 to {MOST_IMAGES}")]
Guidance = Annotated[Number, Field(ge=0, le=MOST_GUIDANCE, description=f"a number from 0 to {MOST_GUIDANCE:g}")]
Strength = Annotated[Number, Field(ge=0.01, le=1, description="a number from 0.01 to 1")]
ImageSeed = Annotated[
    Annotated[Integer, Field(ge=0, lt=MOST_SEED)] | None,
    BeforeValidator(_minus_one_is_absent),
    Only({"anyOf": [{"type": "integer", "minimum": -1, "exclusiveMaximum": MOST_SEED}, {"type": "null"}]}),
    Field(description=f"an integer from 0 to {MOST_SEED - 1}, or -1 to have one chosen"),
]
Styles = Annotated[
    Strings,
    AfterValidator(_styles),
    Only(one_or_list({"type": "string", "pattern": r"[A-Za-z]", "maxLength": MOST_STYLE}, maxItems=MOST_STYLES)),
    Field(description=_STYLES_RULE),
]
Scheduler = Annotated[
    Text,
    AfterValidator(Sampler.parse),
    Only({"enum": [*Sampler.names(), "automatic", ""]}),
    Field(description=f"one of {', '.join(Sampler)}"),
]
Faces = Annotated[Boolean, AfterValidator(_only_false), Only({"const": False}), Field(description=_FACES_RULE)]
Nothing = Annotated[
    Any,
    AfterValidator(_only_nothing),
    Only({"enum": [None, False, 0, ""]}),
    Field(description="nothing: not supported"),
]


class TextToImage(WireModel):
    """``parameters.textToImage``: engine-neutral."""

    prompt: Annotated[Words | None, BeforeValidator(_blank_is_absent)] = None
    negative_prompt: Words | None = None
    styles: Styles | None = None
    seed: ImageSeed = None
    batch_size: Images | None = None
    #: Times ``batchSize`` it may be too much: the endpoint's docstring tells of it.
    num_iterations: Annotated[Images | None, SkipJsonSchema()] = None
    steps: Steps | None = None
    guidance_scale: Guidance | None = None
    width: Side | None = None
    height: Side | None = None
    aspect_ratio: Annotated[
        Annotated[Text, Field(pattern=_RATIO), AfterValidator(_ratio)] | None,
        BeforeValidator(_blank_is_absent),
        Only({"anyOf": [{"type": "string", "pattern": _RATIO}, {"type": "null"}]}),
    ] = Field(default=None, description=_RATIO_RULE)
    denoising_strength: Strength | None = None
    enable_upscaling: Boolean | None = Field(default=None, description="true or false")
    restore_faces: Faces | None = None
    scheduler: Scheduler | None = None
    quality_preset: Annotated[
        Annotated[Text, AfterValidator(_one_of(_QUALITIES))] | None,
        BeforeValidator(_blank_is_absent),
        Only({"enum": [*_QUALITIES, "", None]}),
    ] = Field(default=None, description=f"one of {', '.join(_QUALITIES)}")
    format: Annotated[
        Annotated[Text, AfterValidator(_one_of(_FORMATS))] | None,
        BeforeValidator(_blank_is_absent),
        Only({"enum": [*_FORMATS, "", None]}),
    ] = Field(default=None, description=f"one of {', '.join(_FORMATS)}")


class Txt2Img(WireModel):
    """``engineParameters.stableDiffusion.txt2Img``: the web UI's names, and the document's for two of them. Its ``prompt`` never
    counts (contract §1.1). What else the web UI knows and what does not change the picture is ignored."""

    model_config = ConfigDict(alias_generator=lambda name: name)

    negative_prompt: Words | None = None
    styles: Styles | None = None
    seed: ImageSeed = None
    batch_size: Images | None = None
    n_iter: Annotated[Images | None, SkipJsonSchema()] = None
    steps: Steps | None = None
    num_inference_steps: Steps | None = None
    cfg_scale: Guidance | None = None
    guidance_scale: Guidance | None = None
    width: Side | None = None
    height: Side | None = None
    denoising_strength: Strength | None = None
    sampler_name: Scheduler | None = None
    sampler_index: Scheduler | None = None
    scheduler: Scheduler | None = None
    enable_hr: Boolean | None = Field(default=None, description="true or false")
    hr_scale: (
        Annotated[Number, Field(ge=1, le=MOST_UPSCALE, description=f"a number from 1 to {MOST_UPSCALE:g}")] | None
    ) = None
    restore_faces: Faces | None = None
    tiling: Nothing | None = None
    subseed_strength: Nothing | None = None
    refiner_checkpoint: Nothing | None = None
    script_name: Nothing | None = None
    alwayson_scripts: Nothing | None = None


class StableDiffusion(WireModel):
    txt2_img: Txt2Img | None = Field(default=None, description="an object")


_NEUTRAL, _ENGINE = "parameters.textToImage", "engineParameters.stableDiffusion.txt2Img"


def image_wish(neutral: TextToImage | None, engine: StableDiffusion | None) -> ImageWish:
    """Both as one: the engine's own parameters go before the neutral ones (DESIGN §5), and among them the web UI's names before
    others."""
    wish: dict[str, Any] = {}
    paths: dict[str, str] = {}
    for where, given, names in (
        (_NEUTRAL, neutral, _NEUTRAL_NAMES),
        (_ENGINE, engine.txt2_img if engine else None, _ENGINE_NAMES),
    ):
        for name, field in names:
            value = None if given is None else getattr(given, name)
            if given is not None and value is not None:
                wish[field] = value
                paths[field] = f"{where}.{type(given).model_fields[name].alias or name}"
    if neutral is not None and neutral.enable_upscaling:
        wish["upscale"] = UPSCALE
    txt2img = engine.txt2_img if engine else None
    if txt2img is not None and txt2img.enable_hr is not None:
        wish["upscale"] = (txt2img.hr_scale or UPSCALE) if txt2img.enable_hr else 1.0
    return ImageWish(**wish, paths=paths)


#: Names on the wire (as attributes) and the fields of the wish, those that go before others last.
_NEUTRAL_NAMES = (
    ("prompt", "prompt"),
    ("negative_prompt", "negative_prompt"),
    ("styles", "styles"),
    ("seed", "seed"),
    ("batch_size", "batch_size"),
    ("num_iterations", "iterations"),
    ("steps", "steps"),
    ("guidance_scale", "guidance_scale"),
    ("width", "width"),
    ("height", "height"),
    ("aspect_ratio", "aspect_ratio"),
    ("denoising_strength", "strength"),
    ("scheduler", "scheduler"),
    ("quality_preset", "quality"),
    ("format", "format"),
)
_ENGINE_NAMES = (
    ("negative_prompt", "negative_prompt"),
    ("styles", "styles"),
    ("seed", "seed"),
    ("batch_size", "batch_size"),
    ("n_iter", "iterations"),
    ("num_inference_steps", "steps"),
    ("steps", "steps"),
    ("guidance_scale", "guidance_scale"),
    ("cfg_scale", "guidance_scale"),
    ("width", "width"),
    ("height", "height"),
    ("denoising_strength", "strength"),
    ("scheduler", "scheduler"),
    ("sampler_index", "scheduler"),
    ("sampler_name", "scheduler"),
)
