"""The body of POST /prompt-svc/prompt (contract §1.1): both dialects in, one ``PromptSubmission`` out.

What reaches the engine is an allow-list (SECURITY §2.2): unknown keys of ``engineParameters.vllm`` are refused by name.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any

import orjson
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from jsonschema.validators import validator_for
from pydantic import AfterValidator, ConfigDict, Field

from deployments.ingress.accepted import NULL, Limited, Only, one_or_list
from deployments.ingress.body import depth_exceeds, kind_of
from deployments.ingress.fields import (
    Boolean,
    Integer,
    Number,
    Object,
    PrivateText,
    Strings,
    Text,
    WireModel,
    json_inside,
)
from pipeline.engine import SamplingParameters
from pipeline.errors import ClientError, InvalidField, Shown
from pipeline.submission import PromptSubmission
from pipeline.template import PLACEHOLDER, has_placeholder, unescape_newlines

#: Bytes and levels of a JSON schema: the engine compiles it to a grammar, which costs far more than its size.
MAX_SCHEMA_BYTES = 32 * 1024
MAX_SCHEMA_DEPTH = 32
#: Above every context and every vocabulary; the engine's tensors hold 32 bits.
_MAX_TOKENS = 1_000_000

#: One character that ``str.strip`` leaves, spelt out: what \\s means differs between dialects of regular expressions.
_NOT_BLANK = "[^\\u0009-\\u000d\\u001c-\\u0020\\u0085\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]"
_ID_RULE = "a string of 1 to 256 characters without control characters"
_SCHEMA_RULE = f"a valid JSON schema: an object of at most {MAX_SCHEMA_BYTES} bytes and {MAX_SCHEMA_DEPTH} levels"
_STOP_RULE = "a string of 1 to 256 characters, or a list of at most 16 of them"
_STOP_STRING = {"anyOf": [{"type": "string", "minLength": 1, "maxLength": 256}, {"type": ["number", "boolean"]}]}
_TEMPLATE_RULE = f"a string that contains {PLACEHOLDER}"


def _opaque_id(value: str) -> str:
    if len(value) > 256 or any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in value):
        raise ValueError(_ID_RULE)
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("blank")
    return value


def _stop_strings(value: tuple[str, ...]) -> tuple[str, ...]:
    if len(value) > 16 or not all(1 <= len(item) <= 256 for item in value):
        raise ValueError(_STOP_RULE)
    return value


def _schema(value: dict[str, Any]) -> dict[str, Any]:
    if depth_exceeds(value, MAX_SCHEMA_DEPTH) or len(orjson.dumps(value)) > MAX_SCHEMA_BYTES:
        raise ValueError(_SCHEMA_RULE)
    try:
        validator_for(value, default=Draft202012Validator).check_schema(value)
    except (SchemaError, RecursionError):
        raise ValueError(_SCHEMA_RULE) from None
    return value


Id = Annotated[
    Text,
    AfterValidator(_opaque_id),
    Limited(maxLength=256, pattern="^[^\\u0000-\\u001f\\u007f-\\u009f\\u2028\\u2029]*$"),
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
Schema = Annotated[Object, AfterValidator(_schema), Field(description=_SCHEMA_RULE)]


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
    text_to_image: Annotated[Object, Only(NULL)] | None = Field(default=None, description="an object")


class EngineParameters(WireModel):
    llama_cpp: LlamaCpp | None = Field(default=None, description="an object")
    llama_cpp_parameters: LlamaCpp | None = Field(default=None, description="an object")
    vllm: Vllm | None = Field(default=None, description="an object")
    stable_diffusion: Annotated[Object, Only(NULL)] | None = Field(default=None, description="an object")


class PromptRequest(WireModel):
    prompt: Annotated[
        PrivateText,
        AfterValidator(_not_blank),
        Limited(pattern=_NOT_BLANK),
        Field(description="a string that is not blank"),
    ]
    id: Id | None = None
    sync: Boolean = Field(default=False, description="true or false")
    thread_id: Id | None = None
    model_id: Id | None = None
    max_retries: Annotated[Integer, Field(ge=0, le=100, description="an integer from 0 to 100")] | None = None
    parameters: Parameters | None = Field(default=None, description="an object")
    engine_parameters: EngineParameters | None = Field(default=None, description="an object")


class NotCapable(ClientError):
    """No model of the catalogue can do this."""


def parse_prompt_request(body: Mapping[str, Any]) -> PromptSubmission:
    """The submission in the body of POST /prompt-svc/prompt.

    Raises:
        InvalidField: names the wrong field; of prompts, templates, stop strings and schemas it shows only the kind.
        NotCapable: the request is for an image.
    """
    request = PromptRequest.parse(body)
    parameters = request.parameters or Parameters()
    engine = request.engine_parameters or EngineParameters()
    refuse_images(parameters, engine)
    return PromptSubmission(
        prompt=request.prompt,
        id=request.id or None,
        sync=request.sync,
        thread_id=request.thread_id or None,
        model_id=request.model_id or None,
        max_retries=request.max_retries,
        template=_template(parameters.text_to_text, engine),
        sampling=_sampling(parameters.text_to_text or TextToText(), engine.vllm or Vllm()),
        parameters=_echo(body, "parameters"),
        engine_parameters=_echo(body, "engineParameters"),
    )


def refuse_images(parameters: Parameters, engine: EngineParameters) -> None:
    """Refuse requests that only an image model can serve: the catalogue has none yet."""
    for path, given in (
        ("parameters.textToImage", parameters.text_to_image),
        ("engineParameters.stableDiffusion", engine.stable_diffusion),
    ):
        if given is not None:
            raise NotCapable(f"{path}: no model of the catalogue has the capability to make images")


def _template(text: TextToText | None, engine: EngineParameters) -> str | None:
    """The client's template, None for the model's. ``textToText`` goes first, even with an empty template, which means the
    model's (contract §1.1); only one that speaks of sampling alone leaves the choice to the engine's parameters. One that is
    wrong is refused even where another goes before it."""
    if text is not None and (text.template is not None or not text.model_fields_set):
        chosen = text.template
    elif engine.llama_cpp is not None and engine.llama_cpp.template is not None:
        chosen = engine.llama_cpp.template
    else:
        chosen = engine.llama_cpp_parameters.template if engine.llama_cpp_parameters is not None else None
    for path, options in (
        ("parameters.textToText.template", text),
        ("engineParameters.llamaCpp.template", engine.llama_cpp),
        ("engineParameters.llamaCppParameters.template", engine.llama_cpp_parameters),
    ):
        template = options.template if options is not None else None
        if template and not has_placeholder(template):
            raise InvalidField(path, Shown(f"{kind_of(template)} without it"), _TEMPLATE_RULE)
    return unescape_newlines(chosen) if chosen else None


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
