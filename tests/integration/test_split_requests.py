"""With a split, a request is checked against the model that runs it, and runs on one that can do it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from pipeline.accounts import Account
from tests.integration.ingress_app import IngressApp, ingress_app
from tests.integration.semoss_client import another
from tests.waiting import until_true

#: Only the first reads calls of tools; the second gives fewer logprobs.
CALLER, OTHER = "org/caller", "org/other"
MODELS: list[dict[str, Any]] = [
    {"id": CALLER, "engine": "scripted", "source": "none", "tool_parser": "hermes"},
    {"id": OTHER, "engine": "scripted", "source": "none", "engine_args": {"max_logprobs": 3}},
]
SPLIT = {"splits": {"chat": {CALLER: 1, OTHER: 1}}}
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
HI = {"model": "chat", "messages": [{"role": "user", "content": "hi"}], "store": True}


@pytest.fixture
async def app(redis_url: str) -> AsyncIterator[IngressApp]:
    async with ingress_app(redis_url, models=MODELS) as running:
        running.routing.reconfigure(SPLIT)
        yield running


async def models_of(app: IngressApp, user: Account, count: int) -> list[str]:
    async def listed() -> list[str]:
        reply = await app.send("POST", "/prompt-svc/prompts", {"limit": 100}, as_=user)
        found = [str(prompt["modelId"]) for prompt in reply.json()["prompts"]]
        return found if len(found) >= count else []

    return await until_true(listed)


async def test_tools_go_to_models_that_read_calls(app: IngressApp) -> None:
    user = await app.user("ann")
    for number in range(12):
        body = {**HI, "seed": number, "tools": TOOLS, "stream": True}
        assert await app.begins("/v1/chat/completions", body, as_=user) == 200
    assert set(await models_of(app, user, 12)) == {CALLER}


async def test_tools_go_there_also_where_most_prompts_do_not(app: IngressApp) -> None:
    user = await app.user("ann")
    app.routing.reconfigure({"splits": {"chat": {CALLER: 1, OTHER: 999}}})
    body = {**HI, "tools": TOOLS, "tool_choice": "auto", "stream": True}
    assert await app.begins("/v1/chat/completions", body, as_=user) == 200
    assert await models_of(app, user, 1) == [CALLER]
    app.routing.reconfigure({"splits": {"chat": {OTHER: 1}}})
    refused = await app.send("POST", "/v1/chat/completions", body, as_=user)
    assert refused.status_code == 400
    assert f"the model {OTHER} calls tools only where it must" in refused.json()["error"]["message"]


async def test_a_request_is_checked_against_the_model_of_its_thread(app: IngressApp) -> None:
    user = await app.user("ann")
    refused = 0
    for number in range(20):
        body = {**HI, "seed": number, "logprobs": True, "top_logprobs": 4, "stream": True}
        refused += await app.begins("/v1/chat/completions", body, as_=user) == 400
    assert 0 < refused < 20
    assert set(await models_of(app, user, 20 - refused)) == {CALLER}


async def test_all_answers_to_a_request_are_of_one_model(app: IngressApp) -> None:
    user = await app.user("ann")
    body = {"model": "chat", "prompt": ["a", "b"], "n": 4, "store": True, "stream": True}
    assert await app.begins("/v1/completions", body, as_=user) == 200
    assert len(set(await models_of(app, user, 8))) == 1


async def test_a_default_that_makes_no_text_is_passed_over(app: IngressApp, redis_url: str) -> None:
    painter = {"id": "org/painter", "engine": "diffusers", "source": "none"}
    async with ingress_app(redis_url, models=[painter, *MODELS]) as other:
        user = await other.user("ann")
        body = {"messages": HI["messages"], "store": True, "stream": True}
        assert await other.begins("/v1/chat/completions", body, as_=user) == 200
        assert await models_of(other, user, 1) == [CALLER]
        refused = await other.send("POST", "/v1/chat/completions", {**body, "model": "org/painter"}, as_=user)
        assert refused.json()["error"]["code"] == "model_not_capable"


async def test_tools_of_semoss_go_to_models_that_read_calls(app: IngressApp) -> None:
    user = await app.user("ann")
    tools = '[{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]'
    async with another(app, user) as browser:
        for _ in range(8):
            await browser.start(f'LLM(engine="chat", command="1+1?", paramValues=[{{"tools": {tools}}}]);')
        assert set(await models_of(app, user, 8)) == {CALLER}
