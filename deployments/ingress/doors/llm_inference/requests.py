"""The bodies of ``generate-one`` and ``generate-batch`` in both vocabularies: the document's and that of the service it describes
(contract C.2, C.4, C.6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from deployments.ingress.body import kind_of
from deployments.ingress.fields import Boolean, Number, Private, Text, WireModel
from deployments.ingress.prompt_request import Id, MaxTokens, Temperature, TopK, TopP
from pipeline.engine import SamplingParameters
from pipeline.errors import ClientError, InvalidField, PromptSvcError, Shown

#: Prompts of one batch.
MOST_PROMPTS = 128
#: Characters of a caller's id: it becomes part of the prompt's.
MOST_ID = 200

_PROMPTS_RULE = f"a list of 1 to {MOST_PROMPTS} objects with an id and a prompt"
_NUMBER_RULE = "1: nothing else is offered"


class InvalidDataFormat(ClientError):
    """Invalid Data Format"""

    def __init__(self, error: PromptSvcError, where: str = "") -> None:
        super().__init__(f"Invalid Data Format: {where}{error.message}")


class DuplicateIds(ClientError):
    """Duplicate request_ids"""


def _only_one(value: float) -> float:
    if value != 1:
        raise ValueError(_NUMBER_RULE)
    return value


class _Generation(WireModel):
    """``generation_config``; unknown keys are ignored."""

    max_new_tokens: MaxTokens | None = Field(default=None, alias="max_new_tokens")
    max_length: MaxTokens | None = Field(default=None, alias="maxLength")
    do_sample: Annotated[Boolean, Field(description="true or false")] | None = Field(default=None, alias="do_sample")
    stream: Annotated[Boolean, Field(description="true or false")] | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = Field(default=None, alias="top_p")
    top_k: TopK | None = Field(default=None, alias="top_k")
    num_beams: Annotated[Number, AfterValidator(_only_one), Field(description=_NUMBER_RULE)] | None = Field(
        default=None, alias="num_beams"
    )
    repetition_penalty: Annotated[Number, AfterValidator(_only_one), Field(description=_NUMBER_RULE)] | None = Field(
        default=None, alias="repetition_penalty"
    )
    length_penalty: Number | None = Field(default=None, alias="length_penalty", description="a number")


class _Item(WireModel):
    """One prompt, by itself or of a batch."""

    id: Id | None = None
    request_id: Id | None = Field(default=None, alias="request_id")
    prompt: Annotated[Text, Private(), Field(description="a string that is not blank")]
    max_length: MaxTokens | None = None


class _Single(_Item):
    only_new_tokens: Annotated[Boolean, Field(description="true or false")] = Field(
        default=True, alias="only_new_tokens"
    )
    stream_response: Annotated[Boolean, Field(description="true or false")] | None = Field(
        default=None, alias="stream_response"
    )
    stream: Annotated[Boolean, Field(description="true or false")] | None = None
    generation_config: _Generation | None = Field(default=None, alias="generation_config", description="an object")


class _Batch(WireModel):
    prompts: list[Any] = Field(min_length=1, max_length=MOST_PROMPTS, description=_PROMPTS_RULE)
    max_length: MaxTokens | None = None
    only_new_tokens: Annotated[Boolean, Field(description="true or false")] = Field(
        default=True, alias="only_new_tokens"
    )
    generation_config: _Generation | None = Field(default=None, alias="generation_config", description="an object")


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """One text to generate."""

    id: str
    prompt: str
    sampling: SamplingParameters
    #: Whether the caller speaks of ``id`` and ``data``, not of ``request_id`` and ``response``.
    in_documents_words: bool
    #: Whether it is of a batch.
    is_one_of_several: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class WantedOne:
    wanted: Wanted
    #: Whether the reply begins with the prompt.
    echoes: bool
    streams: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class WantedBatch:
    wanted: tuple[Wanted, ...]
    #: Whether each answer has its prompt beside it.
    echoes: bool


def parse_one(body: Mapping[str, Any]) -> WantedOne:
    """The body of ``generate-one``. Raises InvalidDataFormat."""
    try:
        single = _Single.parse(body)
        generation = single.generation_config or _Generation()
        wanted = _wanted(single, generation, None)
    except InvalidField as error:
        raise InvalidDataFormat(error) from None
    said = (single.stream_response, single.stream, generation.stream)
    return WantedOne(wanted=wanted, echoes=not single.only_new_tokens, streams=False not in said)


def parse_batch(body: Mapping[str, Any]) -> WantedBatch:
    """The body of ``generate-batch``.

    Raises:
        InvalidDataFormat: one prompt that is wrong is enough.
        DuplicateIds: two prompts have the same id.
    """
    try:
        batch = _Batch.parse(body)
    except InvalidField as error:
        raise InvalidDataFormat(error) from None
    generation = batch.generation_config or _Generation()
    wanted = tuple(_item(index, item, generation, batch.max_length) for index, item in enumerate(batch.prompts))
    if len({one.id for one in wanted}) < len(wanted):
        raise DuplicateIds
    return WantedBatch(wanted=wanted, echoes=not batch.only_new_tokens)


def _item(index: int, item: Any, generation: _Generation, shared: int | None) -> Wanted:
    """One prompt of a batch."""
    if not isinstance(item, dict):
        raise InvalidDataFormat(InvalidField(f"prompts.{index}", Shown(kind_of(item)), "an object"))
    try:
        return replace(_wanted(_Item.parse(item), generation, shared), is_one_of_several=True)
    except InvalidField as error:
        raise InvalidDataFormat(error, f"prompts.{index}.") from None


def _wanted(item: _Item, generation: _Generation, shared: int | None) -> Wanted:
    if bool(item.id) == bool(item.request_id):
        got = "both" if item.id else "nothing"
        raise InvalidField("id", Shown(got), "a string that is not empty, as id or as request_id")
    name = item.id or item.request_id or ""
    if len(name) > MOST_ID:
        raise InvalidField("id", Shown(kind_of(name)), f"at most {MOST_ID} characters")
    if not item.prompt.strip():
        raise InvalidField("prompt", Shown(kind_of(item.prompt)), "a string that is not blank")
    return Wanted(
        id=name,
        prompt=item.prompt,
        sampling=_sampling(generation, item.max_length or shared),
        in_documents_words=bool(item.id),
    )


def _sampling(generation: _Generation, max_length: int | None) -> SamplingParameters:
    """What is said beside the prompt goes before what is said for all, that before ``generation_config``."""
    chosen: dict[str, Any] = {
        "max_tokens": max_length or generation.max_new_tokens or generation.max_length,
        "temperature": 0.0 if generation.do_sample is False else generation.temperature,
        "top_p": generation.top_p,
        "top_k": 0 if generation.top_k == -1 else generation.top_k,
    }
    return SamplingParameters(**{name: value for name, value in chosen.items() if value is not None})
