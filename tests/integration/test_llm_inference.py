"""The LLM Inference door on a real store: both vocabularies, statuses, and what becomes of texts nobody waits for any more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from deployments.ingress.doors.llm_inference import requests as requests_module
from deployments.ingress.doors.llm_inference import svc
from pipeline.anonymous import AnonymousRefused, ensure_anonymous
from pipeline.delta import DeltaKind, FinishReason
from pipeline.errors import StoreUnavailable
from pipeline.store.prompts import PromptStore
from tests.integration.ingress_app import EXPIRED, PASSWORD, IngressApp, ingress_app, token
from tests.integration.model_by_hand import ModelByHand
from tests.integration.served import served
from tests.waiting import until_true

ONE, BATCH = "/api/generate-one", "/api/generate-batch"
ASK = {"id": "123", "prompt": "Write a ...", "maxLength": 100}
LENGTH = FinishReason.LENGTH


@pytest.fixture
async def replica(redis_url: str) -> AsyncIterator[IngressApp]:
    async with ingress_app(redis_url, llm_inference_anonymous="on") as replica:
        yield replica


@pytest.fixture
async def client(replica: IngressApp) -> AsyncIterator[httpx.AsyncClient]:
    async with served(replica.app) as url, httpx.AsyncClient(base_url=url, timeout=20) as client:
        yield client


async def prompts_of(replica: IngressApp, slug: str = "anonymous") -> list[dict[str, Any]]:
    """What the account has in the store, newest first."""
    account = await replica.accounts.store.by_slug(slug)
    query = {"query": {"filters": [{"field": "userId", "op": "equals", "valuesJson": f'["{account and account.id}"]'}]}}
    answer = await replica.send("POST", "/prompt-svc/prompts", query, as_=account)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["prompts"])


async def has_ended(replica: IngressApp, status: str, count: int = 1) -> bool:
    found = [prompt["status"] for prompt in await prompts_of(replica)]
    return found == [status] * count


# -- one -----------------------------------------------------------------------------------------------------------------------


async def test_a_text_comes_as_it_is_generated(client: httpx.AsyncClient, model: ModelByHand):
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        opening = group.create_task(client.send(client.build_request("POST", ONE, json=ASK), stream=True))
        attempt = await model.take()
        await attempt.say("In the")
        answer = await opening
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.headers["transfer-encoding"] == "chunked"
        pieces = answer.aiter_text()
        # Each is there before the next one is written.
        assert await anext(pieces) == "In the"
        await attempt.say(" réalm 🦜")
        assert await anext(pieces) == " réalm 🦜"
        await attempt.end(" of code")
        assert [piece async for piece in pieces] == [" of code"]


@pytest.mark.parametrize(("reason", "status"), [(FinishReason.STOP, 200), (LENGTH, 206)])
@pytest.mark.parametrize(
    "changes",
    [{"maxLength": 10}, {"stream": False}, {"stream_response": False}, {"generation_config": {"stream": False}}],
)
async def test_the_status_of_a_short_or_whole_text_tells_whether_it_was_cut(
    client: httpx.AsyncClient, model: ModelByHand, reason: FinishReason, status: int, changes: dict[str, Any]
):
    asking = asyncio.ensure_future(client.post(ONE, json={**ASK, **changes}))
    attempt = await model.answer("In the realm", " of code", reason=reason)
    assert attempt.claimed.sampling.max_tokens == changes.get("maxLength", 100)
    answer = await asking
    assert (answer.status_code, answer.text) == (status, "In the realm of code")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


async def test_the_shipped_services_words_are_understood_too(client: httpx.AsyncClient, model: ModelByHand):
    body = {
        "request_id": "456",
        "prompt": "Write",
        "only_new_tokens": False,
        "generation_config": {"max_new_tokens": 5, "temperature": 0.5, "top_k": -1, "top_p": 0.9, "frob": 1},
    }
    asking = asyncio.ensure_future(client.post(ONE, json=body))
    attempt = await model.answer(" more")
    assert (await asking).text == "Write more"
    sampling = attempt.claimed.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_k, sampling.top_p) == (5, 0.5, 0, 0.9)
    greedy = asyncio.ensure_future(client.post(ONE, json={**ASK, "generation_config": {"do_sample": False}}))
    assert (await model.answer("x")).claimed.sampling.temperature == 0
    await greedy


async def test_an_echo_goes_before_the_first_piece(client: httpx.AsyncClient, model: ModelByHand):
    for words in (("a", "b"), ()):
        asking = asyncio.ensure_future(client.post(ONE, json={**ASK, "only_new_tokens": False}))
        await model.answer(*words)
        assert (await asking).text == "Write a ..." + "".join(words)


async def test_an_id_used_again_is_generated_anew(replica: IngressApp, client: httpx.AsyncClient, model: ModelByHand):
    for text in ("first", "second"):
        asking = asyncio.ensure_future(client.post(ONE, json=ASK))
        await model.answer(text)
        assert (await asking).text == text
    ids = {prompt["id"] for prompt in await prompts_of(replica)}
    assert len(ids) == 2
    assert all(name.startswith("gen-123-") for name in ids)


async def test_a_failure_before_the_first_piece_is_a_500(client: httpx.AsyncClient, model: ModelByHand):
    asking = asyncio.ensure_future(client.post(ONE, json=ASK))
    await (await model.take()).fail("the engine is broken")
    answer = await asking
    assert (answer.status_code, answer.text) == (500, "The generation failed: the engine is broken")


@pytest.mark.parametrize("how", ["fails", "restarts"])
async def test_what_goes_wrong_later_breaks_the_connection(client: httpx.AsyncClient, model: ModelByHand, how: str):
    opening = asyncio.ensure_future(client.send(client.build_request("POST", ONE, json=ASK), stream=True))
    attempt = await model.take()
    await attempt.say("In")
    answer = await opening
    if how == "fails":
        await attempt.fail("the engine is broken")
    else:
        await attempt.say("", DeltaKind.RESTART)
    with pytest.raises(httpx.RemoteProtocolError):
        await answer.aread()


async def test_a_restart_before_the_first_piece_is_nobodys_business(client: httpx.AsyncClient, model: ModelByHand):
    for changes in ({}, {"stream": False}):
        asking = asyncio.ensure_future(client.post(ONE, json={**ASK, **changes}))
        attempt = await model.take()
        await attempt.say("", DeltaKind.RESTART)
        await attempt.say("mulling", DeltaKind.THINKING)
        await attempt.say("text")
        await attempt.end()
        assert (await asking).text == "text"


# -- hanging up ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [ONE, BATCH])
async def test_hanging_up_before_the_reply_cancels(
    replica: IngressApp, client: httpx.AsyncClient, model: ModelByHand, path: str
):
    body = ASK if path == ONE else {"prompts": [{"id": str(i), "prompt": "x"} for i in range(3)]}
    asking = asyncio.ensure_future(client.post(path, json=body))
    await model.take()
    asking.cancel()
    await until_true(lambda: has_ended(replica, "canceled", 1 if path == ONE else 3), what="the cancellation")
    assert await model.waiting() == 0


async def test_hanging_up_while_it_streams_cancels(replica: IngressApp, client: httpx.AsyncClient, model: ModelByHand):
    opening = asyncio.ensure_future(client.send(client.build_request("POST", ONE, json=ASK), stream=True))
    attempt = await model.take()
    await attempt.say("In")
    answer = await opening
    await answer.aclose()
    await until_true(lambda: has_ended(replica, "canceled"), what="the cancellation")
    with pytest.raises(AssertionError):
        await attempt.say("vain")


async def test_what_is_not_there_in_time_is_cancelled(redis_url: str, model: ModelByHand):
    async with ingress_app(redis_url, llm_inference_anonymous="on", sync_wait_s=0.05) as replica:
        answer = await replica.send("POST", BATCH, {"prompts": [{"id": "1", "prompt": "x"}]})
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        await until_true(lambda: has_ended(replica, "canceled"), what="the cancellation")


# -- batches -------------------------------------------------------------------------------------------------------------------


async def test_a_batch_is_answered_in_its_own_order(client: httpx.AsyncClient, model: ModelByHand):
    prompts = [
        {"id": "123", "prompt": "Write a ...", "maxLength": 10},
        {"id": "456", "prompt": "Write a ..."},
        {"request_id": "789", "prompt": "What is ...", "maxLength": 3},
    ]
    asking = asyncio.ensure_future(client.post(BATCH, json={"prompts": prompts, "maxLength": 20}))
    attempts = [await model.take() for _ in prompts]
    assert sorted(attempt.claimed.sampling.max_tokens for attempt in attempts) == [3, 10, 20]
    for attempt in reversed(attempts):
        most = attempt.claimed.sampling.max_tokens
        await attempt.end(f"text {most}", LENGTH if most == 3 else FinishReason.STOP)
    answer = await asking
    assert answer.status_code == 206
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == [
        {"id": "123", "data": "text 10"},
        {"id": "456", "data": "text 20"},
        {"request_id": "789", "response": "text 3"},
    ]


async def test_a_batch_that_nothing_cut_is_a_200_and_may_echo(client: httpx.AsyncClient, model: ModelByHand):
    body = {
        "prompts": [{"request_id": "1", "prompt": "a"}],
        "only_new_tokens": False,
        "generation_config": {"max_new_tokens": 7},
    }
    asking = asyncio.ensure_future(client.post(BATCH, json=body))
    attempt = await model.answer("b")
    assert attempt.claimed.sampling.max_tokens == 7
    answer = await asking
    assert (answer.status_code, answer.json()) == (200, [{"request_id": "1", "prompt": "a", "response": "b"}])


async def test_a_batch_with_one_that_failed_is_a_500_and_the_rest_is_cancelled(
    replica: IngressApp, client: httpx.AsyncClient, model: ModelByHand
):
    asking = asyncio.ensure_future(client.post(BATCH, json={"prompts": [{"id": i, "prompt": "x"} for i in "ab"]}))
    await (await model.take()).fail("the engine is broken")
    assert (await asking).status_code == 500

    async def rest() -> bool:
        return sorted(prompt["status"] for prompt in await prompts_of(replica)) == ["abandoned", "canceled"]

    await until_true(rest, what="the cancellation")


async def test_a_batch_is_accepted_whole_or_not_at_all(replica: IngressApp, client: httpx.AsyncClient):
    prompts = [{"id": "1", "prompt": "fits"}, {"id": "2", "prompt": "x" * 300}]
    answer = await client.post(BATCH, json={"prompts": prompts})
    assert answer.status_code == 400
    assert answer.text.startswith("Invalid Data Format: prompts.1.prompt: got")
    assert "tokens, allowed is at most" in answer.text
    assert await prompts_of(replica) == []


async def test_a_batch_that_the_store_takes_half_of_does_not_go_on(
    replica: IngressApp, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    accept, calls = PromptStore.accept, iter(range(10))

    async def flaky(self: Any, new: Any) -> Any:
        if next(calls) == 1:
            raise StoreUnavailable
        return await accept(self, new)

    monkeypatch.setattr(PromptStore, "accept", flaky)
    answer = await client.post(BATCH, json={"prompts": [{"id": str(i), "prompt": "x"} for i in range(3)]})
    assert answer.status_code == 503
    await until_true(lambda: has_ended(replica, "canceled", 2), what="the cancellation")


# -- bad input -----------------------------------------------------------------------------------------------------------------

MOST = requests_module.MOST_PROMPTS


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        (ONE, b"{", "Invalid JSON format"),
        (ONE, b"[]", "Invalid JSON format"),
        (ONE, {}, "prompt: got nothing"),
        (ONE, {"prompt": "x"}, "id: got nothing"),
        (ONE, {"id": "", "prompt": "x"}, "id: got nothing"),
        (ONE, {"id": "1", "request_id": "1", "prompt": "x"}, "id: got both"),
        (ONE, {"id": "x" * 201, "prompt": "x"}, "id: got a string of 201 characters"),
        (ONE, {"id": "a\nb", "prompt": "x"}, "id: got"),
        (ONE, {"id": {}, "prompt": "x"}, "id: got an object"),
        (ONE, {"id": "1", "prompt": ""}, "prompt: got a string of 0 characters"),
        (ONE, {"id": "1", "prompt": ["x"]}, "prompt: got an array"),
        (ONE, {"id": "1", "prompt": "x" * 300}, "tokens, allowed is at most"),
        (ONE, {**ASK, "maxLength": 0}, "maxLength: got 0"),
        (ONE, {**ASK, "maxLength": "many"}, 'maxLength: got "many"'),
        (ONE, {**ASK, "generation_config": []}, "generation_config: got an array"),
        (ONE, {**ASK, "generation_config": {"num_beams": 4}}, "generation_config.num_beams: got 4"),
        (ONE, {**ASK, "generation_config": {"temperature": "hot"}}, "generation_config.temperature"),
        (BATCH, {}, "prompts: got nothing"),
        (BATCH, {"prompts": []}, "prompts: got an array, allowed is a list of 1 to"),
        (BATCH, {"prompts": "x"}, "prompts: got"),
        (BATCH, {"prompts": [1]}, "prompts.0: got a number"),
        (BATCH, {"prompts": [{"id": "1", "prompt": "x"}, {"id": "2"}]}, "prompts.1.prompt: got nothing"),
        (BATCH, {"prompts": [{"id": "1", "prompt": "x"}, {"prompt": "x"}]}, "prompts.1.id: got nothing"),
        (BATCH, {"prompts": [{"id": "1", "prompt": "x"}, {"request_id": 1, "prompt": "y"}]}, "Duplicate request_ids"),
        (BATCH, {"prompts": [{"id": str(i), "prompt": "x"} for i in range(MOST + 1)]}, "prompts: got an array"),
    ],
)
async def test_what_is_malformed_is_a_400_in_plain_text(replica: IngressApp, path: str, body: Any, says: str):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    transport = httpx.ASGITransport(app=replica.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.post(path, content=content)
    assert answer.status_code == 400, answer.text
    assert says in answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    assert "\n" not in answer.text
    assert await prompts_of(replica) == []


@pytest.mark.parametrize(
    ("method", "path", "status"), [("POST", "/api/nothing", 404), ("GET", ONE, 405), ("GET", BATCH, 405)]
)
async def test_errors_of_the_path_are_plain_text_too(replica: IngressApp, method: str, path: str, status: int):
    answer = await replica.send(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/plain")


async def test_a_body_over_the_cap_is_a_413(replica: IngressApp):
    assert (await replica.send("POST", ONE, {"padding": "x" * 2_000_000})).status_code == 413
    assert (await replica.send("POST", ONE, {}, content_encoding="gzip")).status_code == 415


# -- who may -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [ONE, BATCH])
async def test_without_anonymous_callers_a_token_is_needed(redis_url: str, model: ModelByHand, path: str):
    async with ingress_app(redis_url) as replica:
        alice = await replica.user("alice")
        for caller in (None, "Bearer a.b.c", token(alice, EXPIRED), f"Basic {token(alice).split(' ')[1]}"):
            answer = await replica.send("POST", path, ASK, as_=caller)
            assert (answer.status_code, answer.text) == (401, "Unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer"
        body = {**ASK, "maxLength": 5} if path == ONE else {"prompts": [ASK]}
        asking = asyncio.ensure_future(replica.send("POST", path, body, as_=alice))
        await model.answer("x")
        assert (await asking).status_code == 200
        assert await replica.accounts.store.by_slug("anonymous") is None


async def test_a_bad_token_is_not_made_good_by_anonymous_callers(replica: IngressApp):
    assert (await replica.send("POST", ONE, ASK, as_="Bearer a.b.c")).status_code == 401


async def test_the_anonymous_account_can_be_limited_and_nobody_logs_in_to_it(
    replica: IngressApp, client: httpx.AsyncClient, model: ModelByHand
):
    rule = {"maxRequests": 1, "timeWindow": "1h", "entity": "userId", "scope": "endpoint"}
    instance = {"templateId": "rate-limit", "endpoint": ONE, "parameters": {"rateLimit": rule}}
    saved = await replica.send("PUT", "/policy-svc/instance/p1", {"instance": instance}, as_=await replica.admin())
    assert saved.status_code == 200, saved.text
    asking = asyncio.ensure_future(client.post(ONE, json=ASK))
    await model.answer("x")
    assert (await asking).status_code == 200
    refused = await client.post(ONE, json=ASK)
    assert refused.status_code == 429
    assert refused.headers["content-type"].startswith("text/plain")
    assert int(refused.headers["retry-after"]) > 0
    body = {"appHost": "a", "slug": "anonymous", "password": PASSWORD}
    assert (await replica.send("POST", "/user-svc/login", body)).status_code == 401


async def test_the_account_is_made_once_and_never_taken_from_somebody(replica: IngressApp):
    first = await replica.accounts.store.by_slug("anonymous")
    assert first is not None
    assert (await ensure_anonymous(replica.accounts, "anonymous")).id == first.id
    await replica.user("alice")
    with pytest.raises(AnonymousRefused, match="PROMPT_SVC_LLM_INFERENCE_ACCOUNT"):
        await ensure_anonymous(replica.accounts, "alice")


def test_the_documents_examples_are_short_enough_for_an_exact_status():
    assert svc.MOST_TOKENS_FIRST >= 10
