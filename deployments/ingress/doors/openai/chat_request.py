"""The body of POST /v1/chat/completions: one call with a prompt for each answer it asks for (contract §4.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from deployments.ingress.doors.openai.fields import Flag, Integer, Object, Objects, OpenAiModel, Schema, Word
from deployments.ingress.doors.openai.messages import chat_messages, last_words
from deployments.ingress.doors.openai.sampling import (
    Call,
    MaxTokens,
    SamplingFields,
    check_logprobs,
    check_vocabulary,
    refuse,
)
from deployments.ingress.doors.openai.tools import parsing_of
from deployments.models import ModelText
from deployments.settings import ModelSpec
from pipeline.engine import Parsing, SamplingParameters
from pipeline.errors import InvalidField, Shown
from pipeline.submission import PromptSubmission

MOST_TOP_LOGPROBS = 20
_FORMATS = ("text", "json_object", "json_schema")
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_UNSUPPORTED = {
    "functions": "use tools",
    "function_call": "use tool_choice",
    "audio": "no model speaks",
    "web_search_options": "there is no web search",
    "prediction": "not served",
}


class JsonSchema(OpenAiModel):
    name: Word = "answer"
    schema_: Schema | None = Field(default=None, alias="schema")
    strict: Flag | None = None


class ResponseFormat(OpenAiModel):
    type: Annotated[str, Field(strict=True, description=f"one of {', '.join(_FORMATS)}")]
    json_schema: JsonSchema | None = Field(default=None, description="an object")


class TemplateVariables(OpenAiModel):
    """``chat_template_kwargs``, as vLLM has them: only switches for thinking, nothing that a template would run."""

    enable_thinking: Flag | None = None
    thinking: Flag | None = None


class ChatRequest(SamplingFields):
    messages: Objects
    max_completion_tokens: MaxTokens | None = None
    logprobs: Flag = False
    top_logprobs: (
        Annotated[Integer, Field(ge=0, le=MOST_TOP_LOGPROBS, description="an integer from 0 to 20")] | None
    ) = None
    response_format: ResponseFormat | None = Field(default=None, description="an object")
    tools: Objects | None = None
    tool_choice: Annotated[str, Field(strict=True)] | Object | None = Field(
        default=None, description="a string or an object"
    )
    parallel_tool_calls: Flag = True
    reasoning_effort: Annotated[str, Field(strict=True, description=f"one of {', '.join(_EFFORTS)}")] | None = None
    modalities: Annotated[list[str] | None, Field(description='["text"]')] = None
    chat_template_kwargs: TemplateVariables | None = Field(default=None, description="an object")


def parse_chat_request(body: Mapping[str, Any], *, model: ModelSpec, text: ModelText, highest_priority: int) -> Call:
    """The call in the body of POST /v1/chat/completions.

    Args:
        model: that the body names, or the default one; with ``text`` to it.
        highest_priority: that the caller may ask for.

    Raises:
        InvalidField: names the wrong field; of messages, tools and schemas it shows only the kind.
        OpenAiError: the parameter is not served.
    """
    refuse(body, _UNSUPPORTED)
    request = ChatRequest.parse(body)
    if set(request.modalities or ()) - {"text"}:
        raise InvalidField("modalities", Shown("others"), '["text"]')
    messages = chat_messages(request.messages)
    parsing = parsing_of(
        request.tools,
        request.tool_choice,
        parallel=request.parallel_tool_calls,
        model=model,
        variables=_variables(request),
    )
    chosen = request.sampling()
    check_vocabulary(chosen["logit_bias"], text.vocabulary)
    check_logprobs("top_logprobs", request.top_logprobs, model)
    if request.max_completion_tokens is not None:
        chosen["max_tokens"] = request.max_completion_tokens
    sampling = SamplingParameters(
        **chosen, parsing=parsing, json_schema=_schema(request.response_format), logprobs=_logprobs(request)
    )
    submission = PromptSubmission(
        prompt=last_words(messages),
        messages=messages,
        model_id=request.model or None,
        priority=request.priority(highest_priority),
        sampling=sampling,
        sync=not request.stream,
    )
    return Call(
        object="chat.completion",
        submissions=choices_of(submission, request.n),
        stream=request.stream,
        include_usage=request.stream_options is not None and request.stream_options.include_usage,
        store=request.store,
        metadata=request.metadata,
        service_tier=request.service_tier,
    )


def auto_parsing(tools: Any, choice: Any) -> Parsing | None:
    """What decides, before anything else of a request is looked at, which models can do it: tools that are called of the model's
    own accord. None without them."""
    if isinstance(tools, Sequence) and tools and choice in (None, "auto"):
        return Parsing(tools=tuple(tools))
    return None


def choices_of(submission: PromptSubmission, n: int) -> tuple[PromptSubmission, ...]:
    """``n`` of them, each with a seed of its own if they have one: else they would be the same, as vLLM has it."""
    seed = submission.sampling.seed
    if seed is None:
        return (submission,) * n
    return tuple(replace(submission, sampling=replace(submission.sampling, seed=seed + index)) for index in range(n))


def _schema(wanted: ResponseFormat | None) -> Mapping[str, Any] | None:
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return {"type": "object"}
    if wanted.type != "json_schema":
        raise InvalidField("response_format.type", wanted.type, f"one of {', '.join(_FORMATS)}")
    if wanted.json_schema is None:
        raise InvalidField("response_format.json_schema", Shown("nothing"), "an object with the keys name and schema")
    return wanted.json_schema.schema_ or {"type": "object"}


def _logprobs(request: ChatRequest) -> int | None:
    if request.top_logprobs is not None and not request.logprobs:
        raise InvalidField("top_logprobs", request.top_logprobs, "none without logprobs: true")
    return (request.top_logprobs or 0) if request.logprobs else None


def _variables(request: ChatRequest) -> dict[str, Any]:
    """What the chat template is told of the wish to think more or less."""
    variables: dict[str, Any] = {}
    effort = request.reasoning_effort
    if effort is not None:
        if effort not in _EFFORTS:
            raise InvalidField("reasoning_effort", effort, f"one of {', '.join(_EFFORTS)}")
        variables["reasoning_effort"] = effort
        if effort == "none":
            variables["enable_thinking"] = False
    switches = request.chat_template_kwargs
    if switches is not None:
        given = {"enable_thinking": switches.enable_thinking, "thinking": switches.thinking}
        variables |= {name: value for name, value in given.items() if value is not None}
    return variables
