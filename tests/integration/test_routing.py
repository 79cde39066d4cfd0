"""Splits, fallbacks and the default over HTTP, changed while the ingress runs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from deployments.ingress.model_state import ServeView
from deployments.ingress.notices import Notices
from pipeline.accounts import Account
from pipeline.store.attempts import AttemptStore
from pipeline.store.keys import Keys
from pipeline.store.queue import ModelQueue
from tests.integration.ingress_app import IngressApp, ingress_app, token
from tests.waiting import until_true

MODELS = [
    {"id": "org/a", "aliases": ["first"], "engine": "scripted", "source": "none", "context_tokens": 256},
    {"id": "org/b", "engine": "scripted", "source": "none", "context_tokens": 64},
]
SPLIT = {"splits": {"chat": {"org/a": 1, "org/b": 1}}}


@pytest.fixture
async def app(redis_url: str) -> AsyncIterator[IngressApp]:
    async with ingress_app(redis_url, models=MODELS) as running:
        yield running


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_url)
    yield client
    await client.aclose()


async def submit(app: IngressApp, user: Account, **body: Any) -> dict[str, Any]:
    reply = await app.send("POST", "/prompt-svc/prompt", {"prompt": "hi", **body}, as_=user)
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


async def test_a_split_gives_each_thread_a_model_and_says_so(app: IngressApp) -> None:
    user = await app.user("ann")
    app.routing.reconfigure(SPLIT)
    answers = [await submit(app, user, modelId="chat", threadId=f"t{n % 20}") for n in range(40)]
    assert {answer["routed"] for answer in answers} == {"split chat"}
    models = [answer["prompt"]["modelId"] for answer in answers]
    assert models[:20] == models[20:]
    assert set(Counter(models)) == {"org/a", "org/b"}
    read = await app.send("GET", f"/prompt-svc/prompt/{answers[0]['prompt']['id']}", as_=user)
    assert (read.json()["routed"], read.json()["prompt"]["modelId"]) == ("split chat", models[0])
    assert "routed" not in read.json()["prompt"]


async def test_what_is_named_is_not_routed(app: IngressApp) -> None:
    user = await app.user("ann")
    app.routing.reconfigure(SPLIT)
    answer = await submit(app, user, modelId="first")
    assert (answer["prompt"]["modelId"], "routed" in answer) == ("org/a", False)


async def test_a_split_may_be_the_default_until_an_admin_chooses(app: IngressApp) -> None:
    user, admin = await app.user("ann"), await app.admin()
    app.routing.reconfigure({**SPLIT, "default_model": "chat"})
    assert (await submit(app, user))["routed"] == "split chat"
    listed = (await app.send("POST", "/model-svc/models", {}, as_=user)).json()
    assert (listed["defaultModelId"], listed["splits"]) == ("chat", {"chat": {"org/a": 1, "org/b": 1}})
    assert (await app.send("GET", "/model-svc/default-model/status", as_=user)).json()["modelId"] == "org/a"
    assert (await app.send("PUT", "/model-svc/model/org%2Fb/make-default", as_=admin)).status_code == 200
    assert (await submit(app, user))["prompt"]["modelId"] == "org/b"


async def test_a_change_counts_at_once_and_a_split_that_is_gone_is_unknown(app: IngressApp) -> None:
    user = await app.user("ann")
    app.routing.reconfigure({"splits": {"chat": {"org/b": 1}}})
    assert (await submit(app, user, modelId="chat"))["prompt"]["modelId"] == "org/b"
    app.routing.reconfigure({"splits": {"chat": {"org/a": 1}}})
    assert (await submit(app, user, modelId="chat"))["prompt"]["modelId"] == "org/a"
    app.routing.reconfigure({})
    reply = await app.send("POST", "/prompt-svc/prompt", {"prompt": "hi", "modelId": "chat"}, as_=user)
    assert reply.status_code == 400
    assert reply.json() == {"error": "modelId: got 'chat', allowed is one of first, org/a, org/b"}


async def test_a_prompt_is_stored_for_its_fallback_unless_it_does_not_fit(app: IngressApp, store: Redis) -> None:
    user = await app.user("ann")
    app.routing.reconfigure({"fallbacks": {"org/a": {"model": "org/b"}}})
    fits = (await submit(app, user))["prompt"]["id"]
    too_long = (await submit(app, user, prompt="x" * 100))["prompt"]["id"]
    of_b = (await submit(app, user, modelId="org/b"))["prompt"]["id"]
    key = Keys("ps").prompt
    kept = [await store.hget(key(f"{user.id}/{i}"), "fallback") for i in (fits, too_long, of_b)]  # type: ignore[misc]
    assert kept == [b"org/b", None, None]
    queue = ModelQueue(store, Keys("ps"), "org/a")
    assert await queue.move(stay=0, most=10, why="fallback from org/a: failed") == 1
    read = (await app.send("GET", f"/prompt-svc/prompt/{fits}", as_=user)).json()
    assert (read["prompt"]["modelId"], read["routed"]) == ("org/b", "fallback from org/a: failed")


async def test_a_picture_has_no_fallback_that_may_not_paint_it(redis_url: str, store: Redis) -> None:
    painters = [
        {
            "id": f"org/{name}",
            "engine": "diffusers",
            "source": "none",
            "capabilities": ["text-to-image"],
            "images": rules,
        }
        for name, rules in (
            ("large", {"width": 64, "height": 64, "max_pixels": 64 * 64}),
            ("small", {"width": 32, "height": 32, "max_pixels": 32 * 32}),
        )
    ]
    async with ingress_app(redis_url, models=[*MODELS, *painters]) as app:
        user = await app.user("ann")
        app.routing.reconfigure({"fallbacks": {"org/large": {"model": "org/small"}}})
        kept = []
        for size in ({}, {"width": 32, "height": 32}):
            body = {"modelId": "org/large", "type": "Text-to-Image", "parameters": {"textToImage": size}}
            prompt_id = (await submit(app, user, **body))["prompt"]["id"]
            kept.append(await store.hget(Keys("ps").prompt(f"{user.id}/{prompt_id}"), "fallback"))  # type: ignore[misc]
        assert kept == [None, b"org/small"]


class Serve:
    def __init__(self, view: ServeView) -> None:
        self.current = view

    async def view(self, _deployment: str) -> ServeView | None:
        return self.current


@pytest.mark.parametrize(
    ("view", "words"),
    [
        (ServeView(status="UPSCALING", replicas={"STARTING": 1}), "org/a is starting"),
        (ServeView(status="HEALTHY"), "org/a has no replica yet"),
        (ServeView(status="DEPLOY_FAILED"), "org/a has failed; the prompt waits for it"),
    ],
)
async def test_who_waits_is_told_what_for(app: IngressApp, store: Redis, view: ServeView, words: str) -> None:
    user = await app.user("ann")
    prompt_id = (await submit(app, user, modelId="org/a"))["prompt"]["id"]
    keys = Keys("ps")
    notices = Notices(store, keys, {"org/a": ModelQueue(store, keys, "org/a")}, {"org/a": "LLM-a"}, Serve(view))
    assert await notices.of(f"{user.id}/{prompt_id}") == words


async def test_who_waits_behind_others_or_for_nothing_is_told_nothing(app: IngressApp, store: Redis) -> None:
    user = await app.user("ann")
    prompt_id = (await submit(app, user, modelId="org/a"))["prompt"]["id"]
    keys = Keys("ps")
    serve = Serve(ServeView(status="HEALTHY", replicas={"RUNNING": 1}))
    notices = Notices(store, keys, {"org/a": ModelQueue(store, keys, "org/a")}, {"org/a": "LLM-a"}, serve)
    await AttemptStore(store, keys).register("org/a", "r1", permits=1, node="n", lease_s=100)
    assert await notices.of(f"{user.id}/{prompt_id}") is None
    assert await notices.of(f"{user.id}/none") is None
    serve.current = ServeView(status="HEALTHY")
    await app.send("DELETE", f"/prompt-svc/prompt/{prompt_id}", as_=user)
    assert await notices.of(f"{user.id}/{prompt_id}") is None


async def test_clients_of_openais_api_may_name_a_split(app: IngressApp) -> None:
    user = await app.user("ann")
    app.routing.reconfigure(SPLIT)
    body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}], "store": True, "stream": True}
    transport = httpx.ASGITransport(app=app.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        asking = asyncio.ensure_future(
            client.post("/v1/chat/completions", json=body, headers={"authorization": token(user)})
        )

        async def listed() -> list[dict[str, Any]]:
            reply = await app.send("POST", "/prompt-svc/prompts", {}, as_=user)
            return list(reply.json()["prompts"])

        (prompt,) = await until_true(listed)
        assert prompt["modelId"] in {"org/a", "org/b"}
        await app.send("DELETE", f"/prompt-svc/prompt/{prompt['id']}", as_=user)
        assert (await asking).status_code == 200
    refused = await app.send("POST", "/v1/chat/completions", {**body, "model": "nobody"}, as_=user)
    assert refused.status_code == 404
