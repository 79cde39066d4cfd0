"""The published Python SDK of SEMOSS, as it is, against the door."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import ai_server
import pytest
from ai_server.server_resources.server_client import AuthenticationError

from pipeline.delta import DeltaKind
from tests.integration.ingress_app import PASSWORD, IngressApp, ingress_app, token
from tests.integration.model_by_hand import MODEL, ModelByHand
from tests.integration.served import served

Connect = Callable[..., Awaitable[ai_server.ServerClient]]


@pytest.fixture
async def base(replica: IngressApp) -> AsyncIterator[str]:
    async with served(replica.app) as url:
        yield f"{url}/Monolith/api"


@pytest.fixture
async def engine(replica: IngressApp, base: str) -> ai_server.ModelEngine:
    """A model, as a user's SDK sees it."""
    await replica.user("alice")
    await asyncio.to_thread(ai_server.ServerClient, base, "alice", PASSWORD)
    return ai_server.ModelEngine(engine_id=MODEL)


async def test_ask(engine: ai_server.ModelEngine, model: ModelByHand):
    asking = asyncio.create_task(
        asyncio.to_thread(
            engine.ask,
            command='What is "the capital";\nof <France>?',
            param_dict={"max_new_tokens": 20, "temperature": 0},
        )
    )
    attempt = await model.answer("The capital of France", " is Paris.")
    answer = await asking
    assert answer["response"] == "The capital of France is Paris."
    assert (answer["numberOfTokensInPrompt"], answer["numberOfTokensInResponse"]) == (7, 3)
    assert (answer["messageType"], answer["roomId"]) == ("CHAT", engine.server.cur_insight)
    assert (attempt.claimed.sampling.max_tokens, attempt.claimed.sampling.temperature) == (20, 0)
    asked = bytes(i for i in attempt.claimed.prompt_token_ids if i < 256).decode()
    assert asked == 'What is "the capital";\nof <France>?'


async def test_stream_ask_yields_words_as_they_are_written(engine: ai_server.ModelEngine, model: ModelByHand):
    words: asyncio.Queue[str | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def stream() -> None:
        for word in engine.stream_ask(command="hi", context="be kind", room_id="r1"):
            loop.call_soon_threadsafe(words.put_nowait, word)

    streaming = asyncio.create_task(asyncio.to_thread(stream))
    attempt = await model.take()
    await attempt.say("mulling", DeltaKind.THINKING)
    got = ""
    async with asyncio.timeout(20):
        for word in ("The", " capital"):
            await attempt.say(word)
            got += await words.get() or ""
        # The SDK drops what is only white space.
        await attempt.say(" ")
        await attempt.say("is")
        await attempt.end(" Paris")
        await streaming
    while not words.empty():
        got += words.get_nowait() or ""
    assert got == "The capital is Paris"


@pytest.mark.parametrize("how", ["ask", "stream_ask"])
async def test_what_goes_wrong_is_raised(
    replica: IngressApp, engine: ai_server.ModelEngine, model: ModelByHand, how: str
):
    def ask(engine: ai_server.ModelEngine) -> Any:
        answer = getattr(engine, how)(command="hi")
        return answer if how == "ask" else list(answer)

    with pytest.raises(Exception, match="allowed is one of org/small" if how == "ask" else "Status: Error"):
        await asyncio.to_thread(ask, ai_server.ModelEngine(engine_id="none"))
    asking = asyncio.create_task(asyncio.to_thread(ask, engine))
    await (await model.take()).fail("the engine is broken")
    with pytest.raises(Exception, match="the engine is broken" if how == "ask" else "Status: Error"):
        await asking
    asking = asyncio.create_task(asyncio.to_thread(ask, engine))
    attempt = await model.take()
    account = await replica.accounts.store.by_slug("alice")
    await replica.send("DELETE", f"/prompt-svc/prompt/{attempt.claimed.ref.split('/')[1]}", as_=account)
    with pytest.raises(Exception, match="canceled" if how == "ask" else "Canceled"):
        await asking


async def test_the_rest_of_the_client(
    replica: IngressApp, base: str, engine: ai_server.ModelEngine, model: ModelByHand
):
    client = engine.server
    assert await asyncio.to_thread(engine.get_model_type) == "OPEN_AI"
    first = client.cur_insight
    second = await asyncio.to_thread(client.make_new_insight)
    assert await asyncio.to_thread(client.get_open_insights) == [first, second]
    await asyncio.to_thread(client.drop_insights, [first])
    assert await asyncio.to_thread(client.get_open_insights) == [second]
    asking = asyncio.create_task(asyncio.to_thread(engine.ask, command="hi", insight_id=second))
    await model.answer("hello")
    await asking
    history = await asyncio.to_thread(engine.get_conversation_history, second)
    assert [(row["MESSAGE_TYPE"], row["MESSAGE_DATA"]) for row in history] == [("INPUT", "hi"), ("RESPONSE", "hello")]
    with pytest.raises(Exception, match="the reactor Embeddings is not one of this service"):
        await asyncio.to_thread(engine.embeddings, ["a"], second)
    job_id = await asyncio.to_thread(client.run_pixel_async, f'LLM(engine="{MODEL}", command="x");')
    stop = f'StopPixelExecution(id=["{job_id}"]);'
    assert await asyncio.to_thread(client.run_pixel, stop) == f"job {job_id}: cancel requested"
    cookies = client.cookies
    await asyncio.to_thread(client.logout)
    client.cookies = cookies
    assert await asyncio.to_thread(client.run_pixel, "META | true") == "Please login"


async def test_credentials(replica: IngressApp, base: str):
    account = await replica.user("alice")
    with pytest.raises(AuthenticationError):
        await asyncio.to_thread(ai_server.ServerClient, base, "alice", "wrong")
    bearer = token(account).removeprefix("Bearer ")
    client = await asyncio.to_thread(ai_server.ServerClient, base, bearer_token=bearer, bearer_token_provider="NATIVE")
    assert await asyncio.to_thread(client.run_pixel, "META | true") is True


async def test_csrf_tokens_are_fetched_where_they_are_asked_for(redis_url: str, model: ModelByHand):
    async with ingress_app(redis_url, semoss_csrf=True) as replica, served(replica.app) as url:
        await replica.user("alice")
        await asyncio.to_thread(ai_server.ServerClient, f"{url}/Monolith/api", "alice", PASSWORD)
        engine = ai_server.ModelEngine(engine_id=MODEL)
        asking = asyncio.create_task(asyncio.to_thread(engine.ask, command="hi"))
        await model.answer("hello")
        assert (await asking)["response"] == "hello"
