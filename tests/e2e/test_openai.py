"""The OpenAI door of the real service with the official client: SmolLM2 on vLLM, through Serve's proxy."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any, Literal

import httpx
import openai
import pytest
from pydantic import BaseModel, ConfigDict

from tests.service import Service
from tests.waiting import until_true

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
CAPITAL: Any = [{"role": "user", "content": "What is the capital of France?"}]
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a city",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"enum": ["Paris", "Rome"]},
                "days": {"type": "integer", "minimum": 1, "maximum": 9},
            },
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}


class City(BaseModel):
    model_config = ConfigDict(extra="forbid")

    # A free string is as long as a small model likes.
    name: Literal["Paris", "Rome"]
    is_capital: bool


@pytest.fixture
async def key(user: httpx.AsyncClient) -> str:
    """An API key of a fresh user's."""
    return str((await user.post("/user-svc/api-key", json={"name": "e2e"})).json()["key"])


@pytest.fixture
async def client(service: Service, key: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key=key, max_retries=0) as client:
        yield client


async def test_the_sync_client_with_a_key(service: Service, key: str) -> None:
    def ask() -> tuple[Any, str]:
        with openai.OpenAI(base_url=f"{service.url}/v1", api_key=key) as client:
            assert MODEL in [model.id for model in client.models.list()]
            assert client.models.retrieve(MODEL).owned_by == "prompt-svc"
            found = client.chat.completions.create(model=MODEL, messages=CAPITAL, temperature=0)
            stream = client.chat.completions.create(model=MODEL, messages=CAPITAL, temperature=0, stream=True)
            return found, "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    found, streamed = await asyncio.to_thread(ask)
    assert found.choices[0].message.content == streamed == "The capital of France is Paris."
    assert (found.choices[0].finish_reason, found.usage.completion_tokens) == ("stop", 8)
    assert found._request_id
    assert "," not in found._request_id, "once, not once by each of us"


async def test_the_async_client_streams_as_it_is_written(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Write a long story"}],
        max_completion_tokens=60,
        seed=5,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks, times = [], []
    async for chunk in stream:
        chunks.append(chunk)
        times.append(time.monotonic())
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 60
    assert len(chunks) > 10
    assert len({round(moment, 1) for moment in times}) > 3, "not all at the end"


async def test_log_probabilities_come_with_the_tokens(client: openai.AsyncOpenAI) -> None:
    asked: Any = {"model": MODEL, "messages": CAPITAL, "temperature": 0, "logprobs": True, "top_logprobs": 2}
    found = (await client.chat.completions.create(**asked)).choices[0].logprobs
    stream = await client.chat.completions.create(**asked, stream=True)
    chunks = [chunk.choices[0].logprobs async for chunk in stream]
    streamed = [one for logprobs in chunks if logprobs for one in logprobs.content or ()]
    assert "".join(one.token for one in found.content or ()) == "The capital of France is Paris."
    assert [one.token for one in streamed] == [one.token for one in found.content or ()]
    assert all(len(one.top_logprobs) == 2 and one.logprob <= 0 for one in streamed)


async def test_a_schema_is_followed_and_parsed_by_the_client(client: openai.AsyncOpenAI) -> None:
    found = await client.chat.completions.parse(
        model=MODEL, messages=CAPITAL, response_format=City, temperature=0, max_tokens=80
    )
    assert isinstance(found.choices[0].message.parsed, City)
    free = await client.chat.completions.create(
        model=MODEL, messages=CAPITAL, response_format={"type": "json_object"}, temperature=0, max_tokens=40
    )
    assert (free.choices[0].message.content or "").lstrip().startswith("{")


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
async def test_tools_that_must_be_called_are_called_with_arguments_that_fit(
    client: openai.AsyncOpenAI, choice: Any
) -> None:
    asked: Any = {"model": MODEL, "messages": CAPITAL, "tools": [TOOL], "tool_choice": choice, "temperature": 0}
    found = await client.chat.completions.create(**asked, parallel_tool_calls=False)
    assert found.choices[0].finish_reason == "tool_calls"
    (call,) = found.choices[0].message.tool_calls
    arguments = json.loads(call.function.arguments)
    assert call.function.name == "weather"
    assert arguments["city"] in ("Paris", "Rome")
    assert 1 <= arguments["days"] <= 9
    async with client.chat.completions.stream(**asked, parallel_tool_calls=False) as stream:
        final = await stream.get_final_completion()
    assert final.choices[0].message.tool_calls[0].function.arguments == call.function.arguments


async def test_closing_the_connection_cancels_within_a_second(service: Service, user: httpx.AsyncClient) -> None:
    async def status(prompt_id: str) -> str:
        return str((await user.get(f"/prompt-svc/prompt/{prompt_id}")).json()["prompt"]["status"])

    body: Any = {"model": "test/slow", "messages": CAPITAL}
    async with httpx.AsyncClient(base_url=service.url, headers=user.headers) as other:
        async with other.stream("POST", "/v1/chat/completions", json={**body, "stream": True}, timeout=30) as answer:
            streamed = answer.headers["x-prompt-id"]
            await until_true(lambda: _is(status, streamed, "running"))
        with pytest.raises(httpx.ReadTimeout):
            await other.post("/v1/chat/completions", json=body, timeout=1)
    newest = {"query": {"limit": 1, "orderBys": [{"field": "createdAt", "desc": True}],
              "filters": [{"fields": ["threadId"], "op": "startsWith", "valuesJson": '["chatcmpl"]'}]}}  # fmt: skip
    waited = (await user.post("/prompt-svc/prompts", json=newest)).json()["prompts"][0]["id"]
    for prompt_id in (streamed, waited):
        await until_true(lambda prompt_id=prompt_id: _is(status, prompt_id, "canceled"), timeout_s=1)


async def test_a_stream_goes_on_behind_the_death_of_its_replica(client: openai.AsyncOpenAI) -> None:
    """A scripted replica, which dies once in the middle; the embedded model's does in the README's test."""
    asked: Any = {"model": "test/mortal", "messages": [{"role": "user", "content": "You are mortal"}]}
    stream = await client.chat.completions.create(**asked, stream=True)
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    whole = await client.chat.completions.create(**asked)
    assert text == whole.choices[0].message.content
    assert (await client.chat.completions.retrieve(whole.id)).choices == whole.choices


async def _is(status: Any, prompt_id: str, wanted: str) -> bool:
    return bool(await status(prompt_id) == wanted)
