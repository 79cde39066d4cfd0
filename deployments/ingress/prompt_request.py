"""The body of POST /prompt-svc/prompt (contract §1.1): both dialects in, one ``PromptSubmission`` out.

What reaches the engine is an allow-list (SECURITY §2.2): unknown keys of ``engineParameters.vllm`` are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from deployments.ingress.accepted import NO_CONTROLS, NOT_BLANK, Limited, Only, one_or_list
from deployments.ingress.body import kind_of
from deployments.ingress.fields import (
    Boolean,
    Integer,
    Number,
    Object,
    Private,
    PrivateText,
    Strings,
    Text,
    WireModel,
    has_controls,
    json_inside,
)
from deployments.ingress.image_request import StableDiffusion, TextToImage, image_wish
from deployments.ingress.json_schema import SCHEMA_RULE, check_schema
from pipeline.engine import SamplingParameters
from pipeline.errors import InvalidField, Shown
from pipeline.json_text import printable
from pipeline.priority import HIGHEST, LOWEST, NORMAL
from pipeline.prompt_type import PromptType, infer_type
from pipeline.submission import PromptSubmission
from pipeline.template import (
    MOST_NAME,
    MOST_VARIABLES,
    PLACEHOLDER,
    PROMPT,
    has_placeholder,
    is_variable_name,
    unescape_newlines,
    variables_of,
)

#: Above every context and every vocabulary; the engine's tensors hold 32 bits.
_MAX_TOKENS = 1_000_000

_ID_RULE = "a string of 1 to 256 characters without control characters"
_FILES_RULE = "at most 16 ids of files: a string of 1 to 256 characters, or a list of them"
_STOP_RULE = "a string of 1 to 256 characters, or a list of at most 16 of them"
_STOP_STRING = {"anyOf": [{"type": "string", "minLength": 1, "maxLength": 256}, {"type": ["number", "boolean"]}]}
_TEMPLATE_RULE = f"a string that contains {PLACEHOLDER}"
_TEMPLATE_OF_SEVERAL_RULE = f"a string that contains {PLACEHOLDER} or another variable"
_PROMPT_RULE = "a string that is not blank"
_VARIABLES_RULE = f"an object with a string for each variable of the template, at most {MOST_VARIABLES}"
_VARIABLE_NAME_RULE = f"a name of 1 to {MOST_NAME} letters (a to z), digits and _, not beginning with a digit"


def _opaque_id(value: str) -> str:
    if len(value) > 256 or has_controls(value):
        raise ValueError(_ID_RULE)
    return value


def _empty_is_absent(value: object) -> object:
    return None if value == "" else value


def _without_nulls(value: object) -> object:
    value = json_inside(value, "{")
    return {name: item for name, item in value.items() if item is not None} if isinstance(value, dict) else value


def _stop_strings(value: tuple[str, ...]) -> tuple[str, ...]:
    if len(value) > 16 or not all(1 <= len(item) <= 256 for item in value):
        raise ValueError(_STOP_RULE)
    return value


def _file_ids(value: tuple[str, ...]) -> tuple[str, ...]:
    ids = tuple(dict.fromkeys(value))
    if len(ids) > 16 or not all(1 <= len(item) <= 256 for item in ids):
        raise ValueError(_FILES_RULE)
    return ids


Id = Annotated[
    Text,
    AfterValidator(_opaque_id),
    Limited(maxLength=256, pattern=NO_CONTROLS),
    Field(description=_ID_RULE),
]
Template = Annotated[
    PrivateText, Only({"type": "string", "pattern": r"^$|\{prompt\}"}), Field(description=_TEMPLATE_RULE)
]
Temperature = Annotated[Number, Field(ge=0, le=2, description="a number from 0 to 2")]
TopP = Annotated[Number, Field(gt=0, le=1, description="a number above 0 and up to 1")]
TopK = Annotated[
    Integer,
    Field(ge=-1, le=_MAX_TOKENS, description=f"an integer from 0 (all) to {_MAX_TOKENS}, or -1 (all)"),
]
MaxTokens = Annotated[Integer, Field(ge=1, le=_MAX_TOKENS, description=f"an integer from 1 to {_MAX_TOKENS}")]
Seed = Annotated[Integer, Field(ge=-(2**63), lt=2**63, description="an integer of 64 bits")]
Penalty = Annotated[Number, Field(ge=-2, le=2, description="a number from -2 to 2")]
Stop = Annotated[
    Strings, AfterValidator(_stop_strings), Only(one_or_list(_STOP_STRING, maxItems=16)), Field(description=_STOP_RULE)
]
FileIds = Annotated[Strings, AfterValidator(_file_ids), Field(description=_FILES_RULE)]
Schema = Annotated[Object, AfterValidator(check_schema), Field(description=SCHEMA_RULE)]
Priority = Annotated[Integer, Field(ge=LOWEST, le=HIGHEST, description=f"an integer from {LOWEST} to {HIGHEST}")]
Variables = Annotated[
    dict[str, PrivateText],
    BeforeValidator(_without_nulls),
    Field(max_length=MOST_VARIABLES, description=_VARIABLES_RULE),
    Private(),
]


class TextToText(WireModel):
    """``parameters.textToText``: engine-neutral. Everything but the template goes beyond the document."""

    template: Template | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: TopK | None = None
    max_tokens: MaxTokens | None = None
    stop: Stop | None = None
    seed: Seed | None = None
    json_schema: Schema | None = None


class LlamaCpp(WireModel):
    template: Template | None = None


class StructuredOutputs(WireModel):
    """Only a JSON schema: a regex or a grammar from outside can stall the engine (SECURITY §2.2)."""

    model_config = ConfigDict(extra="forbid")

    json_: Schema | None = Field(default=None, alias="json")


class Vllm(WireModel):
    """``engineParameters.vllm``: vLLM's own names."""

    model_config = ConfigDict(extra="forbid", alias_generator=lambda name: name)

    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: TopK | None = None
    max_tokens: MaxTokens | None = None
    stop: Stop | None = None
    seed: Seed | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    structured_outputs: StructuredOutputs | None = Field(default=None, description="an object with the key json")
    guided_json: Schema | None = None


class Parameters(WireModel):
    text_to_text: TextToText | None = Field(default=None, description="an object")
    text_to_image: TextToImage | None = Field(default=None, description="an object")


class EngineParameters(WireModel):
    llama_cpp: LlamaCpp | None = Field(default=None, description="an object")
    llama_cpp_parameters: LlamaCpp | None = Field(default=None, description="an object")
    vllm: Vllm | None = Field(default=None, description="an object")
    stable_diffusion: StableDiffusion | None = Field(default=None, description="an object")


class PromptRequest(WireModel):
    """Fields that depend on others, or on what is stored, are not in its schema; the endpoint's docstring tells of them."""

    prompt: Annotated[PrivateText, Limited(pattern=NOT_BLANK), Field(description=_PROMPT_RULE)]
    id: Id | None = None
    sync: Boolean = Field(default=False, description="true or false")
    thread_id: Id | None = None
    model_id: Id | None = None
    max_retries: Annotated[Integer, Field(ge=0, le=100, description="an integer from 0 to 100")] | None = None
    history: Annotated[Boolean | None, SkipJsonSchema()] = Field(default=None, description="true or false")
    file_ids: Annotated[FileIds, SkipJsonSchema()] = ()
    image_url: Annotated[PrivateText | None, SkipJsonSchema()] = Field(default=None, description="an https URL")
    parameters: Parameters | None = Field(default=None, description="an object")
    engine_parameters: EngineParameters | None = Field(default=None, description="an object")
    type: Annotated[
        PromptType | None,
        BeforeValidator(_empty_is_absent),
        Only({"enum": [*PromptType, "", None]}),
        Field(description=f"one of {', '.join(PromptType)}"),
    ] = None
    priority: Priority = NORMAL
    template_name: Annotated[Id | None, SkipJsonSchema()] = None
    variables: Annotated[Variables | None, SkipJsonSchema()] = None


def parse_prompt_request(body: Mapping[str, Any]) -> PromptSubmission:
    """The submission in the body of POST /prompt-svc/prompt.

    Raises:
        InvalidField: names the wrong field; of prompts, templates, variables, stop strings and schemas it shows only the kind.
    """
    request = PromptRequest.parse(_with_optional_prompt(body))
    parameters = request.parameters or Parameters()
    engine = request.engine_parameters or EngineParameters()
    prompt_type = _type(request, parameters, engine)
    if prompt_type.needs_text and not request.prompt.strip():
        raise InvalidField("prompt", Shown(kind_of(request.prompt)), _PROMPT_RULE)
    return PromptSubmission(
        prompt=request.prompt,
        id=request.id or None,
        sync=request.sync,
        thread_id=request.thread_id or None,
        model_id=request.model_id or None,
        max_retries=request.max_retries,
        type=prompt_type,
        priority=request.priority,
        history=request.history,
        template=_template(request, parameters.text_to_text, engine),
        template_name=request.template_name or None,
        variables=_variables(request.variables),
        sampling=_sampling(parameters.text_to_text or TextToText(), engine.vllm or Vllm()),
        image=image_wish(parameters.text_to_image, engine.stable_diffusion) if prompt_type.makes_images else None,
        file_ids=request.file_ids,
        image_url=request.image_url or None,
        parameters=_echo(body, "parameters"),
        engine_parameters=_echo(body, "engineParameters"),
    )


def _with_optional_prompt(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """A type that needs no words may leave the prompt out."""
    given = PromptRequest.canonical(body)
    if given.get("type") == PromptType.UNCONDITIONAL_IMAGE_GENERATION and "prompt" not in given:
        return {**given, "prompt": ""}
    return body


def _type(request: PromptRequest, parameters: Parameters, engine: EngineParameters) -> PromptType:
    """The type the client names, else the one its parameters and files mean."""
    images = [
        path
        for path, given in (
            ("parameters.textToImage", parameters.text_to_image),
            ("engineParameters.stableDiffusion", engine.stable_diffusion),
        )
        if given is not None
    ]
    if request.type is None:
        return infer_type(image_parameters=bool(images), has_files=bool(request.file_ids or request.image_url))
    if images and not request.type.makes_images:
        raise InvalidField(images[0], Shown("an object"), f"none with the type {request.type}")
    return request.type


def _template(request: PromptRequest, text: TextToText | None, engine: EngineParameters) -> str | None:
    """The client's own template, None for a saved one or the model's. One that is wrong is refused even where another goes
    before it."""
    given = {
        "parameters.textToText.template": text,
        "engineParameters.llamaCpp.template": engine.llama_cpp,
        "engineParameters.llamaCppParameters.template": engine.llama_cpp_parameters,
    }
    for path, options in given.items():
        if options is not None and options.template:
            _check_template(path, options.template, with_variables=request.variables is not None)
    path, template = _given_template(text, engine)
    if not template:
        if request.variables and not request.template_name:
            raise InvalidField("variables", Shown("an object"), "none without a template")
        return None
    if request.template_name:
        raise InvalidField("templateName", request.template_name, f"none beside {path}")
    return unescape_newlines(template)


def _check_template(path: str, template: str, *, with_variables: bool) -> None:
    """Raises InvalidField unless it has a place for the prompt, or for something where there are variables."""
    if not with_variables and not has_placeholder(template):
        raise InvalidField(path, Shown(f"{kind_of(template)} without it"), _TEMPLATE_RULE)
    if with_variables and not variables_of(template):
        raise InvalidField(path, Shown(f"{kind_of(template)} without one"), _TEMPLATE_OF_SEVERAL_RULE)


def _given_template(text: TextToText | None, engine: EngineParameters) -> tuple[str, str | None]:
    """Where a template is given, and the template. ``textToText`` goes first, even with an empty template, which means the
    model's (contract §1.1); only one that speaks of sampling alone leaves the choice to the engine's parameters."""
    if text is not None and (text.template is not None or not text.model_fields_set):
        return "parameters.textToText.template", text.template
    if engine.llama_cpp is not None and engine.llama_cpp.template is not None:
        return "engineParameters.llamaCpp.template", engine.llama_cpp.template
    if engine.llama_cpp_parameters is not None:
        return "engineParameters.llamaCppParameters.template", engine.llama_cpp_parameters.template
    return "", None


def _variables(given: Mapping[str, str] | None) -> Mapping[str, str] | None:
    for name in given or {}:
        if not is_variable_name(name):
            raise InvalidField(f"variables.{printable(name)}", Shown("another name"), _VARIABLE_NAME_RULE)
        if name == PROMPT:
            raise InvalidField(f"variables.{PROMPT}", Shown("a string"), f"none: {PLACEHOLDER} is always the prompt")
    return given


def _sampling(text: TextToText, vllm: Vllm) -> SamplingParameters:
    """Sampling: the engine's own parameters go before the neutral ones, those before the defaults (DESIGN §5)."""
    chosen = {**_given(text), **_given(vllm)}
    chosen.pop("template", None)
    guided = chosen.pop("guided_json", None)
    structured: StructuredOutputs | None = chosen.pop("structured_outputs", None)
    schema = structured.json_ if structured else None
    schema = guided if schema is None else schema
    if schema is not None:
        chosen["json_schema"] = schema
    if chosen.get("top_k") == -1:
        chosen["top_k"] = 0
    return SamplingParameters(**chosen)


def _given(model: WireModel) -> dict[str, Any]:
    """The fields a client set; what is inside them is left as it is."""
    return {name: getattr(model, name) for name in model.model_fields_set}


def _echo(body: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """The object as it was sent (as an object even when it came as its JSON text)."""
    value = json_inside(PromptRequest.canonical(body).get(name), "{")
    return value if isinstance(value, dict) else None
