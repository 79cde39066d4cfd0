"""The body of POST /v1/completions: text or token ids, as they stand (contract §4.4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from deployments.ingress.doors.openai.chat_request import choices_of
from deployments.ingress.doors.openai.errors import unsupported
from deployments.ingress.doors.openai.fields import Flag, Integer
from deployments.ingress.doors.openai.sampling import (
    Call,
    SamplingFields,
    check_choices,
    check_logprobs,
    check_vocabulary,
    refuse,
)
from deployments.ingress.fields import Private
from deployments.models import ModelText
from deployments.settings import ModelSpec
from pipeline.engine import SamplingParameters
from pipeline.errors import InvalidField, Shown, kind_of
from pipeline.submission import PromptSubmission
from pipeline.template import PLACEHOLDER

#: Prompts of one request, and answers to all of them.
MOST_PROMPTS = 32
MOST_ANSWERS = 64
DEFAULT_MAX_TOKENS = 16
_MOST_LOGPROBS = 5
_PROMPT_RULE = f"a string, a list of at most {MOST_PROMPTS} strings, a list of token ids, or a list of such lists"


class CompletionRequest(SamplingFields):
    prompt: Annotated[Any, Private(), Field(description=_PROMPT_RULE)]
    echo: Flag = False
    best_of: Annotated[Integer, Field(ge=1, description="the same as n")] | None = None
    logprobs: Annotated[Integer, Field(ge=0, le=_MOST_LOGPROBS, description="an integer from 0 to 5")] | None = None


def parse_completion_request(
    body: Mapping[str, Any], *, model: ModelSpec, text: ModelText, highest_priority: int
) -> Call:
    """The call in the body of POST /v1/completions; arguments and errors as in ``parse_chat_request``."""
    refuse(body, {"suffix": "no model fills gaps"})
    request = CompletionRequest.parse(body)
    if request.best_of not in (None, request.n):
        raise unsupported("best_of", f"best_of: got {request.best_of}, allowed is the same as n")
    if request.echo and request.logprobs is not None:
        raise unsupported("logprobs", "logprobs: not with echo: how likely the prompt was is not known")
    prompts = _prompts(request.prompt)
    check_choices(len(prompts) * request.n, MOST_ANSWERS)
    chosen = {"max_tokens": DEFAULT_MAX_TOKENS, **request.sampling()}
    check_vocabulary(chosen["logit_bias"], text.vocabulary)
    check_logprobs("logprobs", request.logprobs, model)
    sampling = SamplingParameters(**chosen, logprobs=request.logprobs)
    submissions = [
        PromptSubmission(
            prompt=prompt if isinstance(prompt, str) else text.decode(prompt),
            prompt_token_ids=None if isinstance(prompt, str) else prompt,
            # As it stands: the model's chat template has no part in it.
            template=PLACEHOLDER,
            model_id=request.model or None,
            priority=request.priority(highest_priority),
            sampling=sampling,
            sync=not request.stream,
        )
        for prompt in prompts
    ]
    return Call(
        object="text_completion",
        submissions=tuple(choice for submission in submissions for choice in choices_of(submission, request.n)),
        prompts=len(prompts),
        stream=request.stream,
        include_usage=request.stream_options is not None and request.stream_options.include_usage,
        store=request.store,
        metadata=request.metadata,
        service_tier=request.service_tier,
        echo=request.echo,
    )


def _prompts(given: Any) -> list[str | tuple[int, ...]]:
    """Each a text or token ids, not empty."""
    if isinstance(given, str) or _are_ids(given):
        given = [given]
    if not isinstance(given, list):
        raise InvalidField("prompt", Shown(kind_of(given)), _PROMPT_RULE)
    if not 1 <= len(given) <= MOST_PROMPTS:
        raise InvalidField("prompt", Shown(f"{len(given)} of them"), _PROMPT_RULE)
    prompts: list[str | tuple[int, ...]] = []
    for index, prompt in enumerate(given):
        if not prompt or not (isinstance(prompt, str) or _are_ids(prompt)):
            raise InvalidField(f"prompt.{index}", Shown(kind_of(prompt)), _PROMPT_RULE)
        prompts.append(prompt if isinstance(prompt, str) else tuple(prompt))
    return prompts


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(item) is int for item in value)
