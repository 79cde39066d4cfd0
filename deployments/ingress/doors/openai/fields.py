"""Types of this API's fields: strict, unlike the service's own, whose command line sends numbers as text."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from deployments.ingress.fields import Private, WireModel
from deployments.ingress.prompt_request import Schema as Schema

MOST_STOPS = 4
_STOP_RULE = f"a string of 1 to 256 characters, or a list of at most {MOST_STOPS} of them"
_METADATA_RULE = "an object of at most 16 keys of up to 64 characters, with strings of up to 512 characters"

Raw: TypeAlias = dict[str, Any]


def _number(value: object) -> object:
    if isinstance(value, bool | str):
        raise ValueError("not a number")
    return value


def _stops(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _check_stops(value: tuple[str, ...]) -> tuple[str, ...]:
    if len(value) > MOST_STOPS or not all(1 <= len(stop) <= 256 for stop in value):
        raise ValueError(_STOP_RULE)
    return value


def _check_metadata(value: dict[str, str]) -> dict[str, str]:
    if len(value) > 16 or any(len(name) > 64 or len(text) > 512 for name, text in value.items()):
        raise ValueError(_METADATA_RULE)
    return value


Number = Annotated[float, BeforeValidator(_number)]
Integer = Annotated[int, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True, description="true or false")]
Word = Annotated[str, Field(strict=True, max_length=256, description="a string of at most 256 characters")]
#: Any object, not looked into.
Object = Annotated[Raw, Private(), Field(description="an object")]
Objects = Annotated[list[Raw], Private(), Field(description="a list of objects")]
Stops = Annotated[
    tuple[Annotated[str, Field(strict=True)], ...],
    BeforeValidator(_stops),
    AfterValidator(_check_stops),
    Private(),
    Field(description=_STOP_RULE),
]
Metadata = Annotated[
    dict[str, Annotated[str, Field(strict=True)]],
    AfterValidator(_check_metadata),
    Private(),
    Field(description=_METADATA_RULE),
]


class OpenAiModel(WireModel):
    """A request object with keys as they are named here; unknown ones are ignored, ``null`` is absent."""

    model_config = ConfigDict(alias_generator=lambda name: name)
