"""What chat and text completions have in common: how an answer is sampled, in OpenAI's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from deployments.ingress.doors.openai.errors import OpenAiError, unsupported
from deployments.ingress.doors.openai.fields import Flag, Integer, Metadata, Number, OpenAiModel, Stops, Word
from deployments.settings import ModelSpec
from pipeline.errors import InvalidField, Shown
from pipeline.priority import NORMAL
from pipeline.submission import PromptSubmission

#: Answers to one request: each is a prompt of its own (SECURITY §2.2: ``n`` without bounds takes an engine down).
MOST_CHOICES = 8
#: Tokens that a bias may be given to.
MOST_BIASES = 1024
#: The engine's tensors hold 32 bits; above every context.
_MOST_TOKENS = 1_000_000
#: Below everybody who does not ask for ``flex``.
_FLEX = -5
_BIAS_RULE = f"an object of at most {MOST_BIASES} token ids, each with a number from -100 to 100"

MaxTokens = Annotated[Integer, Field(ge=1, le=_MOST_TOKENS, description=f"an integer from 1 to {_MOST_TOKENS}")]
Penalty = Annotated[Number, Field(ge=-2, le=2, description="a number from -2 to 2")]


class StreamOptions(OpenAiModel):
    include_usage: Flag = False


class SamplingFields(OpenAiModel):
    """Fields that both requests have."""

    model: Word | None = None
    n: Annotated[Integer, Field(ge=1, le=MOST_CHOICES, description=f"an integer from 1 to {MOST_CHOICES}")] = 1
    stream: Flag = False
    stream_options: StreamOptions | None = Field(default=None, description="an object")
    stop: Stops = ()
    seed: (
        Annotated[Integer, Field(ge=-(2**63), lt=2**63 - MOST_CHOICES, description="an integer of 64 bits")] | None
    ) = None
    temperature: Annotated[Number, Field(ge=0, le=2, description="a number from 0 to 2")] | None = None
    top_p: Annotated[Number, Field(gt=0, le=1, description="a number above 0 and up to 1")] | None = None
    #: Beyond OpenAI's, as vLLM has it.
    top_k: Annotated[Integer, Field(ge=-1, le=_MOST_TOKENS, description="an integer from -1 (all)")] | None = None
    max_tokens: MaxTokens | None = None
    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0
    logit_bias: Annotated[dict[str, Number] | None, Field(description=_BIAS_RULE)] = None
    user: Annotated[str, Field(strict=True, description="a string")] | None = None
    metadata: Metadata | None = None
    service_tier: Annotated[str, Field(strict=True, max_length=64, description="a string")] | None = None
    store: Flag = False

    def sampling(self) -> dict[str, Any]:
        """The fields of ``SamplingParameters`` that were given.

        Raises:
            InvalidField: of ``logit_bias``.
        """
        chosen: dict[str, Any] = {
            "stop": self.stop,
            "presence_penalty": self.presence_penalty,
            "frequency_penalty": self.frequency_penalty,
            "logit_bias": _biases(self.logit_bias or {}),
        }
        given = {"seed": self.seed, "temperature": self.temperature, "top_p": self.top_p, "max_tokens": self.max_tokens}
        if self.top_k is not None:
            given["top_k"] = max(self.top_k, 0)
        return chosen | {name: value for name, value in given.items() if value is not None}

    def priority(self, highest: int) -> int:
        """``flex`` goes behind the others, ``priority`` before them as far as users may."""
        tiers = {"flex": _FLEX, "priority": max(NORMAL, highest)}
        return tiers.get(self.service_tier or "", NORMAL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A request for one or several answers, ready to be submitted."""

    #: What the reply is called: ``chat.completion`` or ``text_completion``.
    object: str
    #: One per answer, in their order, without ids.
    submissions: tuple[PromptSubmission, ...]
    #: Prompts among them that differ: ``n`` answers share one.
    prompts: int = 1
    stream: bool = False
    include_usage: bool = False
    #: Whether it outlives its connection.
    store: bool = False
    metadata: Mapping[str, str] | None = None
    service_tier: str | None = None
    #: Whether a text begins with its prompt.
    echo: bool = False


def refuse(body: Mapping[str, Any], reasons: Mapping[str, str]) -> None:
    """Raises OpenAiError for the first of these parameters that is given, with the reason."""
    for name, reason in reasons.items():
        if body.get(name) not in (None, [], {}, False):
            raise unsupported(name, f"{name}: {reason}")


def check_vocabulary(biases: tuple[tuple[int, float], ...], vocabulary: int) -> None:
    """Raises InvalidField if there is a bias for a token that the model does not have."""
    for token_id, _ in biases:
        if token_id >= vocabulary:
            raise InvalidField("logit_bias", token_id, f"token ids from 0 to {vocabulary - 1}")


def check_logprobs(field: str, logprobs: int | None, model: ModelSpec) -> None:
    """Raises InvalidField if that is more than the model's engine takes."""
    if logprobs is not None and logprobs > model.most_logprobs:
        raise InvalidField(field, logprobs, f"at most {model.most_logprobs} with the model {model.id}")


def _biases(given: Mapping[str, float]) -> tuple[tuple[int, float], ...]:
    if len(given) > MOST_BIASES:
        raise InvalidField("logit_bias", Shown(f"{len(given)} of them"), _BIAS_RULE)
    for token_id, bias in given.items():
        if not (token_id.isascii() and token_id.isdigit() and len(token_id) <= 9 and -100 <= bias <= 100):
            raise InvalidField("logit_bias", Shown("something else"), _BIAS_RULE)
    return tuple((int(token_id), bias) for token_id, bias in given.items())


def check_choices(count: int, most: int) -> None:
    """Raises OpenAiError if a request asks for more answers than may be."""
    if count > most:
        raise OpenAiError(f"n: got {count} answers altogether, allowed are at most {most}", param="n")
