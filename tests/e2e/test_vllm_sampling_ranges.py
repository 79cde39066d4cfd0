"""What the doors let through, vLLM takes: the ends of every range that a client may ask for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from deployments.ingress.doors.llm_inference.requests import parse_one
from deployments.ingress.doors.open_assistant.bodies import Sampling
from deployments.ingress.doors.openai.chat_request import parse_chat_request
from deployments.ingress.doors.openai.completion_request import parse_completion_request
from deployments.ingress.doors.semoss.pixel import parse_pixel
from deployments.ingress.doors.semoss.questions import question_of_pixel
from deployments.ingress.prompt_request import parse_prompt_request
from deployments.models import ModelText
from deployments.settings import ModelSpec, Settings
from pipeline.engine import SamplingParameters

MODEL = ModelSpec(id="m", engine="scripted", source="none")
TEXT = ModelText.open(MODEL, Settings.parse({"redis_url": "redis://none.invalid", "models": [MODEL]}))
WHOLE: dict[str, Any] = {"model": MODEL, "text": TEXT, "highest_priority": 0}


@pytest.fixture
def as_vllm_has_it() -> Callable[[SamplingParameters], Any]:
    from deployments.engines.vllm import _sampling_params

    return lambda sampling: _sampling_params(sampling, already=0, replayed=[])


def chat(**given: Any) -> SamplingParameters:
    body = {"messages": [{"role": "user", "content": "x"}], **given}
    return parse_chat_request(body, **WHOLE).submissions[0].sampling


def completion(**given: Any) -> SamplingParameters:
    return parse_completion_request({"prompt": "x", **given}, **WHOLE).submissions[0].sampling


def prompt(**given: Any) -> SamplingParameters:
    return parse_prompt_request({"prompt": "x", "engineParameters": {"vllm": given}}).sampling


def open_assistant(**given: Any) -> SamplingParameters:
    return Sampling.model_validate(given).for_engine(seed=1)


def semoss(**given: Any) -> SamplingParameters:
    pixel = f'LLM(engine="m", command="x", paramValues=[{json.dumps(given)}]);'
    return question_of_pixel(parse_pixel(pixel)).sampling


def llm_inference(**given: Any) -> SamplingParameters:
    return parse_one({"id": "1", "prompt": "x", "generation_config": given}).wanted.sampling


SHARED = {"temperature": (0, 2), "top_p": (1e-300, 1), "top_k": (-1, 1_000_000)}
PENALTIES = {"presence_penalty": (-2, 2), "frequency_penalty": (-2, 2)}
TOKENS = {"max_tokens": (1, 1_000_000)}
OPENAI = SHARED | PENALTIES | TOKENS | {"seed": (-(2**63), 2**63 - 9)}
OURS = SHARED | PENALTIES | TOKENS | {"seed": (-(2**63), 2**63 - 1)}
RANGES: list[tuple[Callable[..., SamplingParameters], dict[str, tuple[float, float]]]] = [
    (chat, OPENAI),
    (completion, OPENAI | {"logprobs": (0, 5)}),
    (prompt, OURS),
    (semoss, OURS),
    (open_assistant, SHARED | {"repetition_penalty": (1e-300, 100), "max_new_tokens": (1, 1_000_000)}),
    (llm_inference, SHARED | {"max_new_tokens": (1, 1_000_000)}),
]


@pytest.mark.parametrize(
    ("parse", "field", "value"),
    [
        pytest.param(parse, field, value, id=f"{parse.__name__}-{field}-{value}")
        for parse, ranges in RANGES
        for field, ends in ranges.items()
        for value in ends
    ],
)
def test_both_ends_of_a_range_are_vllms(
    as_vllm_has_it: Callable[..., Any], parse: Callable[..., SamplingParameters], field: str, value: float
):
    import torch

    params = as_vllm_has_it(parse(**{field: value}))
    if params.seed is not None:
        torch.Generator().manual_seed(params.seed)


def test_the_most_logprobs_of_a_chat_are_those_that_vllm_gives_by_default(as_vllm_has_it: Callable[..., Any]):
    from vllm.engine.arg_utils import AsyncEngineArgs

    assert AsyncEngineArgs.max_logprobs == MODEL.most_logprobs
    assert as_vllm_has_it(chat(logprobs=True, top_logprobs=20)).logprobs == MODEL.most_logprobs


@pytest.mark.parametrize(
    ("parse", "field", "value"),
    [
        pytest.param(parse, field, value, id=f"{parse.__name__}-{field}-{value}")
        for parse, ranges in RANGES
        for field, values in {
            "temperature": (-0.01, 2.01),
            "top_p": (0, 1.01),
            "top_k": (-2,),
            "presence_penalty": (-2.01, 2.01),
            "frequency_penalty": (-2.01, 2.01),
            "repetition_penalty": (0,),
            "max_tokens": (0,),
            "max_new_tokens": (0,),
            "seed": (-(2**63) - 1, 2**63),
            "logprobs": (-1,),
        }.items()
        if field in ranges
        for value in values
    ],
)
def test_what_vllm_refuses_is_refused_at_the_door(parse: Callable[..., SamplingParameters], field: str, value: float):
    with pytest.raises(Exception, match=field):
        parse(**{field: value})
