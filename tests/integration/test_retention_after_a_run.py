"""What a prompt leaves behind that was submitted over HTTP and answered by a replica, once it has been kept long enough."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from deployments.engines.scripted import ScriptedEngine
from deployments.models import ModelText
from deployments.replica.attempts import AttemptRunner, Outcome
from deployments.replica.histories import Histories
from deployments.replica.text_answers import TextAnswers
from deployments.settings import ModelSpec, RetentionSpec, Settings
from deployments.tasks import Supervisor
from pipeline.accounts import Account
from pipeline.store.attempts import AttemptStore
from pipeline.store.connection import connect_patient
from pipeline.store.history import HistoryReader
from pipeline.store.keys import Keys
from pipeline.store.queue import ModelQueue
from pipeline.store.retention import Retention
from tests.integration.contents import as_held, everything_in
from tests.integration.ingress_app import IngressApp, ingress_app
from tests.waiting import until_true

CANARY = "canary-in-the-prompt"
TITLE = "canary-of-the-user"
SPEC = ModelSpec(id="org/small", engine="scripted", source="none", context_tokens=256, engine_args={"step_s": 0})
KEPT_S = 0.3


class Replica:
    """A replica with the scripted engine, and a router that brings it one prompt when it is told to."""

    def __init__(self, redis_url: str, supervisor: Supervisor) -> None:
        self.client = connect_patient(redis_url)
        self.keys = Keys("ps")
        self._queue = ModelQueue(self.client, self.keys, SPEC.id)
        self._store = AttemptStore(self.client, self.keys)
        text = ModelText.open(SPEC, Settings.parse({"redis_url": redis_url, "models": [SPEC.model_dump()]}))
        self._runner = AttemptRunner(
            store=self._store,
            work=TextAnswers(
                store=self._store,
                engine=ScriptedEngine(SPEC),
                histories=Histories(HistoryReader(self.client, self.keys), text),
                model_id=SPEC.id,
            ),
            model_id=SPEC.id,
            replica="r",
            node="n",
            permits=4,
            lease_s=100,
            supervisor=supervisor,
            on_engine_death=lambda: None,
        )

    async def answer_next(self) -> None:
        await self._store.register(SPEC.id, "r", permits=4, node="n", lease_s=100)
        (grant,) = await self._queue.grant(1, 100)
        assert await asyncio.wait_for(self._runner.run(grant.ref, grant.fence, grant.alone), 10) is Outcome.ENDED

    def retention(self, **seconds: float) -> Retention:
        days = {status: kept / 86_400 for status, kept in seconds.items()}
        return Retention(self.client, self.keys, RetentionSpec(**days).days)


@pytest.fixture
async def service(redis_url: str) -> AsyncIterator[IngressApp]:
    async with ingress_app(redis_url, sync_wait_s=10) as service:
        yield service


@pytest.fixture
async def replica(redis_url: str) -> AsyncIterator[Replica]:
    supervisor = Supervisor()
    replica = Replica(redis_url, supervisor)
    yield replica
    await supervisor.stop()
    await replica.client.aclose()


@pytest.fixture
async def ann(service: IngressApp) -> Account:
    return await service.user("ann")


async def ask(service: IngressApp, replica: Replica, ann: Account, **body: Any) -> dict[str, Any]:
    """Submit a prompt, have it answered, and return the reply with the answer."""
    waiting = asyncio.create_task(
        service.send("POST", "/prompt-svc/prompt", {"sync": True, "parameters": TOKENS, **body}, as_=ann)
    )
    ref = replica.keys.prompt(f"{ann.id}/{body['id']}")
    await until_true(lambda: replica.client.exists(ref), what="the prompt in the store")
    await replica.answer_next()
    answer = (await asyncio.wait_for(waiting, 10)).json()
    assert answer["prompt"]["status"] == "completed"
    return dict(answer)


TOKENS = {"textToText": {"maxTokens": 12, "temperature": 0}}


async def get(service: IngressApp, ann: Account, path: str) -> tuple[int, Any]:
    answer = await service.send("GET", path, as_=ann)
    return answer.status_code, answer.json()


async def test_text_and_answer_are_gone_from_everywhere_after_their_time(
    service: IngressApp, replica: Replica, ann: Account
):
    answer = await ask(service, replica, ann, id="mine", prompt=f"Tell me about the {CANARY}")
    text = answer["responseMessage"]["text"]
    assert text
    held = b"".join(await everything_in(replica.client))
    assert held.count(CANARY.encode()) >= 3  # the record, the message, the title
    assert as_held(text) in held
    assert (await get(service, ann, "/chat-svc/thread/mine"))[1]["thread"]["title"] == f"Tell me about the {CANARY}"

    retention = replica.retention(completed=KEPT_S)
    await until_true(retention.erase_expired, what="the end of its time")

    held = b"".join(await everything_in(replica.client))
    assert CANARY.encode() not in held
    assert as_held(text) not in held
    not_found = (404, {"error": "Not Found"})
    for path in ("/prompt-svc/prompt/mine", "/chat-svc/thread/mine", "/chat-svc/thread/mine/messages"):
        assert await get(service, ann, path) == not_found
    for path, body in (
        ("/prompt-svc/prompts", {"query": {"filters": [{"field": "id", "operator": "equals", "value": "mine"}]}}),
        ("/chat-svc/messages", {}),
        ("/chat-svc/threads", {}),
    ):
        listed = (await service.send("POST", path, body, as_=ann)).json()
        assert next(value for value in listed.values() if isinstance(value, list)) == []


async def test_a_conversation_loses_the_prompts_words_and_keeps_its_own_title_and_what_was_posted_by_hand(
    service: IngressApp, replica: Replica, ann: Account
):
    made = await service.send("POST", "/chat-svc/thread", {"id": "talk", "title": TITLE}, as_=ann)
    assert made.status_code == 200
    by_hand = {"id": "note", "text": "a note of the user"}
    assert (await service.send("POST", "/chat-svc/thread/talk/message", by_hand, as_=ann)).status_code == 200
    await ask(service, replica, ann, id="one", threadId="talk", prompt=f"{CANARY} one")
    await ask(service, replica, ann, id="two", threadId="talk", prompt=f"{CANARY} two")
    retention = replica.retention(completed=KEPT_S)

    async def both_are_gone() -> bool:
        await retention.erase_expired()
        return (await get(service, ann, "/prompt-svc/prompt/two"))[0] == 404

    await until_true(both_are_gone, what="the end of their time")
    # What the model was told of the first one, for the second one's answer, is gone with it.
    assert CANARY.encode() not in b"".join(await everything_in(replica.client))
    assert (await get(service, ann, "/chat-svc/thread/talk"))[1]["thread"]["title"] == TITLE
    messages = (await get(service, ann, "/chat-svc/thread/talk/messages"))[1]["messages"]
    assert [message["text"] for message in messages] == ["a note of the user"]


async def test_nothing_goes_before_its_time_or_for_another_status(service: IngressApp, replica: Replica, ann: Account):
    await ask(service, replica, ann, id="mine", prompt=CANARY)
    assert await replica.retention(completed=3600).erase_expired() == 0
    assert await replica.retention(abandoned=0.000001, canceled=0.000001).erase_expired() == 0
    assert (await get(service, ann, "/prompt-svc/prompt/mine"))[1]["responseMessage"]["text"]
