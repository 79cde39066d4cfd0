"""Bodies of POST /v1/images/generations and /v1/images/edits: one prompt per image (contract §4.7)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from deployments.ingress.doors.openai.errors import unsupported
from deployments.ingress.doors.openai.fields import Flag, Integer, Number, OpenAiModel, Word
from deployments.ingress.doors.openai.sampling import Call, refuse
from deployments.ingress.fields import Private
from deployments.ingress.prompt_request import parse_prompt_request
from pipeline.errors import InvalidField, Shown
from pipeline.prompt_type import PromptType

MOST_IMAGES = 4
FORMATS = ("png", "jpeg", "webp")
_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})\Z")
_SIZE_RULE = "auto, or width and height such as 512x512"
_PROMPT_RULE = "a string that is not blank"


class ImageRequest(OpenAiModel):
    """What both have. ``seed`` and the fields behind it go beyond OpenAI's."""

    prompt: Annotated[str, Private(), Field(strict=True, description=_PROMPT_RULE)]
    model: Word | None = None
    n: Annotated[Integer, Field(ge=1, le=MOST_IMAGES, description=f"an integer from 1 to {MOST_IMAGES}")] = 1
    size: Annotated[str, Field(strict=True, max_length=16, description=_SIZE_RULE)] = "auto"
    quality: Word | None = None
    background: Word | None = None
    response_format: Annotated[str, Field(strict=True, max_length=16, description="b64_json")] = "b64_json"
    output_format: Annotated[str, Field(strict=True, max_length=16, description=f"one of {', '.join(FORMATS)}")] = "png"
    stream: Flag = False
    user: Annotated[str, Field(strict=True, description="a string")] | None = None
    seed: Annotated[Integer, Field(ge=0, lt=2**32 - MOST_IMAGES, description="an integer of 32 bits")] | None = None
    steps: Integer | None = None
    guidance_scale: Number | None = None
    negative_prompt: Annotated[str, Private(), Field(strict=True, description="a string")] | None = None
    scheduler: Word | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageCall:
    call: Call
    #: As asked, in the reply; None: ``auto``.
    size: str | None
    output_format: str


def parse_image_request(body: Mapping[str, Any], *, model_id: str | None, file_ids: tuple[str, ...] = ()) -> ImageCall:
    """The prompts of a request: as Prompt Svc's own API would have them, so that what is allowed there is allowed here.

    Args:
        model_id: that the body names, None for any model that can.
        file_ids: images to be edited.

    Raises:
        InvalidField: names the wrong field, of Prompt Svc's request where that refuses it.
        OpenAiError: the parameter is not served.
    """
    refuse(
        body, {"mask": "no model edits parts of an image", "images": "send the image as a form (multipart/form-data)"}
    )
    request = ImageRequest.parse(body)
    if not request.prompt.strip():
        raise InvalidField("prompt", Shown("a blank one"), _PROMPT_RULE)
    if request.response_format != "b64_json":
        raise unsupported(
            "response_format",
            "response_format: allowed is b64_json; files are behind a login, so a URL would open nothing",
        )
    if request.background == "transparent":
        raise unsupported("background", "background: no model paints transparent ones")
    if request.output_format not in FORMATS:
        raise InvalidField("output_format", request.output_format, f"one of {', '.join(FORMATS)}")
    submissions = tuple(
        parse_prompt_request(
            {
                "prompt": request.prompt,
                "type": PromptType.IMAGE_TO_IMAGE if file_ids else PromptType.TEXT_TO_IMAGE,
                "modelId": model_id,
                "fileIds": list(file_ids),
                "parameters": {"textToImage": _parameters(request, index)},
            }
        )
        for index in range(request.n)
    )
    return ImageCall(
        call=Call(object="image", submissions=submissions, stream=request.stream),
        size=None if request.size == "auto" else request.size,
        output_format=request.output_format,
    )


def _parameters(request: ImageRequest, index: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "seed": None if request.seed is None else request.seed + index,
        "steps": request.steps,
        "guidanceScale": request.guidance_scale,
        "negativePrompt": request.negative_prompt,
        "scheduler": request.scheduler,
        "format": request.output_format,
    }
    if request.size != "auto":
        size = _SIZE.match(request.size)
        if size is None:
            raise InvalidField("size", request.size, _SIZE_RULE)
        found |= {"width": int(size[1]), "height": int(size[2])}
    return {name: value for name, value in found.items() if value is not None}
