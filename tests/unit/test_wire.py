"""Snapshots of everything prompt-svc says on the wire."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from deployments.ingress import wire
from deployments.ingress.auth import Gate
from deployments.ingress.bearers import Bearers
from deployments.ingress.errors import error_response
from deployments.ingress.prompt_svc import PromptSvc
from deployments.ingress.submitter import Submitter
from deployments.ingress.threads import Cursor, ThreadEvent, Waiting
from deployments.ingress.tokens import Claims
from deployments.ingress.web import web_app
from pipeline import errors
from pipeline.accounts import Role
from pipeline.delta import Delta, DeltaKind, FinishReason
from pipeline.errors import PromptSvcError
from pipeline.prompt import Prompt
from pipeline.query import Query
from pipeline.states import Status
from pipeline.store.logs import LogEntry
from pipeline.store.messages import Message
from pipeline.store.page import Page
from pipeline.store.prompts import Accepted
from tests.unit.snapshot import check_json, check_text

WAITING = Prompt(
    id="prom-1",
    user_id="usr-1",
    thread_id="thread_12345",
    place=3,
    model_id="m",
    prompt="What is <AI> & why?\n🙂",
    status=Status.SCHEDULED,
    sync=False,
    priority=0,
    type="",
    max_retries=4,
    runs=0,
    failures=0,
    crashes=0,
    fence=0,
    error="",
    created_us=1_773_561_898_000_001,
    updated_us=1_773_561_898_000_001,
    last_run_us=0,
    message_id="",
    parameters=None,
    engine_parameters=None,
)
STARTED = replace(WAITING, runs=1, fence=1, last_run_us=1_773_561_899_500_000, updated_us=1_773_561_899_500_000)
PROMPTS = {
    Status.SCHEDULED: WAITING,
    Status.RUNNING: replace(STARTED, status=Status.RUNNING, sync=True, type="Text-to-Text"),
    Status.COMPLETED: replace(
        STARTED,
        status=Status.COMPLETED,
        message_id="msg-1",
        updated_us=1_773_561_901_000_000,
        parameters={"textToText": {"template": "[INST] {prompt} [/INST]"}},
        engine_parameters={"llamaCpp": {"template": "### HUMAN:\n{prompt}"}},
    ),
    Status.ERRORED: replace(STARTED, status=Status.ERRORED, failures=1, error="the engine failed"),
    Status.ABANDONED: replace(STARTED, status=Status.ABANDONED, runs=5, failures=5, error="the engine failed"),
    Status.CANCELED: replace(STARTED, status=Status.CANCELED),
}
ANSWER = Message(
    id="msg-1",
    thread_id="thread_12345",
    text="An <answer>.\n",
    user_id="",
    created_us=1_773_561_901_000_000,
    meta={"modelId": "m", "finishReason": "stop", "promptTokens": 9, "completionTokens": 4},
)


def event(delta: Delta, number: int = 1, message_id: str = "", *file_ids: str) -> ThreadEvent:
    entry = LogEntry(number=number, delta=delta, message_id=message_id, file_ids=file_ids)
    return ThreadEvent(cursor=Cursor(place=3, number=number), prompt_id="prom-1", entry=entry)


EVENTS = {
    "progress": event(Delta(text="Quantum computing is a revolutionary", token_ids=(1, 2))),
    "done": event(
        Delta(kind=DeltaKind.END, text=" technology.", token_ids=(3,), finish_reason=FinishReason.STOP), 2, "msg-1"
    ),
    "done without text": event(Delta(kind=DeltaKind.END, finish_reason=FinishReason.LENGTH), 2, "msg-1"),
    "error": event(Delta(kind=DeltaKind.END, finish_reason=FinishReason.ERROR, error="the engine failed"), 2),
    "canceled": event(Delta(kind=DeltaKind.END, finish_reason=FinishReason.CANCELED), 2),
    "restart": event(Delta(kind=DeltaKind.RESTART), 2),
    "a step of a picture": event(Delta(kind=DeltaKind.STEP, step=3, steps=20), 1),
    "a step with a preview": event(Delta(kind=DeltaKind.STEP, step=4, steps=20, preview="UklGRg=="), 2),
    "done with pictures": event(
        Delta(kind=DeltaKind.END, text="Here is your image.", finish_reason=FinishReason.STOP), 3, "msg-1", "file-1"
    ),
}


@pytest.mark.parametrize("status", Status)
def test_the_prompt_object(status: Status):
    check_json(f"prompt-{status}", wire.prompt_object(PROMPTS[status]))


def test_somebody_elses_prompt_as_an_admin_sees_it():
    check_json("prompt-of-somebody-else", wire.prompt_object(PROMPTS[Status.COMPLETED], with_text=False))


def test_an_answer():
    check_json("message-answer", wire.message_object(ANSWER))


def test_a_users_message():
    check_json("message-user", wire.message_object(replace(ANSWER, user_id="usr-1", meta=None)))


def test_stream_chunks():
    check_json("chunks", {name: wire.chunk(event) for name, event in EVENTS.items()})


@pytest.mark.parametrize(
    "delta", [Delta(token_ids=(9,)), *(Delta(kind=kind) for kind in (DeltaKind.THINKING, DeltaKind.USAGE))]
)
def test_entries_without_text_are_not_shown(delta: Delta):
    assert wire.chunk(event(delta)) is None


def test_times_have_microseconds_and_never_is_the_zero_time():
    assert wire.timestamp(1_773_561_898_000_001) == "2026-03-15T08:04:58.000001Z"
    assert wire.timestamp(0) == "0001-01-01T00:00:00Z"


def test_error_bodies():
    made: list[PromptSvcError] = [
        errors.InvalidField("query.limit", -1, "an integer from 1 to 1000"),
        errors.TooManyRequests(retry_after_s=2.5),
    ]
    shown = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, PromptSvcError)]
    made += [cls() for cls in shown if cls not in (errors.InvalidField, errors.TooManyRequests)]
    check_json(
        "errors",
        {
            type(error).__name__: {
                "status": (reply := error_response(error)).status_code,
                "body": bytes(reply.body).decode(),
                "headers": {k: v for k, v in reply.headers.items() if k in ("retry-after", "www-authenticate")},
            }
            for error in sorted(made, key=lambda error: type(error).__name__)
        },
    )


# -- the endpoints, around stubs of what they call ------------------------------------------------------------------------


class Stub:
    """Service, listing, messages and threads in one; keeps what it was asked."""

    def __init__(
        self,
        *,
        ended: Prompt = PROMPTS[Status.COMPLETED],
        events: tuple[ThreadEvent | Waiting, ...] = (),
        position: int | None = None,
    ) -> None:
        self.ended = ended
        self.position = position
        self.events = events
        self.listed = Page(prompts=[])
        #: What conditions saw of the prompts that were listed.
        self.searched: list[Mapping[str, Any]] = []
        self.asked: list[Any] = []

    async def submit(self, user_id: str, submission: Any) -> Accepted:
        self.asked.append((user_id, submission.prompt))
        return Accepted(prompt=WAITING, is_new=True, queue_position=self.position)

    @asynccontextmanager
    async def fetched(self, caller: Any, submission: Any) -> AsyncIterator[Any]:
        yield submission

    async def read(self, user_id: str, prompt_id: str) -> tuple[Prompt, int | None]:
        self.asked.append((user_id, prompt_id))
        return self.ended, self.position

    async def wait(self, prompt: Prompt, timeout_s: float) -> Prompt:
        return self.ended

    async def remove(self, user_id: str, prompt_id: str) -> None:
        self.asked.append((user_id, prompt_id))

    async def page(self, query: Query, *, user_id: str | None, show: Any) -> Page:
        self.asked.append((query, user_id))
        with_files = replace(PROMPTS[Status.RUNNING], file_ids=("file-1",))
        prompts = [with_files, replace(WAITING, id="prom-2", user_id="usr-2", file_ids=("file-2",))]
        self.searched = [show(prompt) for prompt in prompts]
        return replace(self.listed, prompts=prompts, count=17 if query.count else None)

    async def get(self, user_id: str, message_id: str) -> Message:
        return ANSWER

    async def attend(self, user_id: str, thread_id: str, cursor: Cursor | None) -> AsyncIterator[ThreadEvent | Waiting]:
        self.asked.append((user_id, thread_id, cursor))
        for event in self.events:
            yield event

    async def of(self, ref: str) -> str | None:
        return "org/small is starting" if ref == "usr-1/cold" else None


class AnyToken:
    def verify(self, encoded: str) -> Claims:
        roles = (Role.ADMIN, Role.USER) if encoded == "admin" else (Role.USER,)
        return Claims(
            user_id="usr-1", slug="x", roles=roles, app_id="a", device="", token_id="tok-1", expires_at=2_000_000_000
        )


def client(stub: Stub, token: str = "user") -> httpx.AsyncClient:
    settings: Any = SimpleNamespace(
        sync_wait_s=600.0,
        sse_heartbeat_s=15.0,
        max_body_bytes=1024 * 1024,
        max_user_priority=2,
        model_names=["org/small"],
        models=[],
    )
    service: Any = stub
    submitter = Submitter(settings, service, service)
    svc = PromptSvc(settings, service, service, service, service, notices=service, submitter=submitter)
    app = web_app(svc.routes(Gate(Bearers(AnyToken()))))  # type: ignore[arg-type]
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://t", headers={"Authorization": f"Bearer {token}"}
    )


async def test_the_answer_to_an_asynchronous_prompt():
    reply = await client(Stub()).post("/prompt-svc/prompt", json={"prompt": "x"})
    assert reply.status_code == 200
    check_json("submit-async", reply.json())


async def test_the_answer_to_a_prompt_that_waits_behind_others():
    reply = await client(Stub(position=17)).post("/prompt-svc/prompt", json={"prompt": "x"})
    check_json("submit-async-waiting", reply.json())


@pytest.mark.parametrize(("token", "most"), [("user", 2), ("admin", 10)])
async def test_how_far_priority_goes_depends_on_who_asks(token: str, most: int):
    for priority, status in ((-10, 200), (most, 200), (str(most), 200), (most + 1, 400), (-11, 400), (1.5, 400)):
        reply = await client(Stub(), token).post("/prompt-svc/prompt", json={"prompt": "x", "priority": priority})
        assert reply.status_code == status, priority
        if status == 400:
            assert reply.json()["error"].startswith(f"priority: got {priority}, allowed is an integer from -10 to ")


async def test_a_misspelt_parameter_is_warned_of_beside_the_prompt():
    body = {"prompt": "x", "paramters": {}, "parameters": {"textToText": {"maxTokns": 5}}}
    reply = (await client(Stub()).post("/prompt-svc/prompt", json=body)).json()
    check_json("submit-warnings", reply)
    waited_for = (await client(Stub()).post("/prompt-svc/prompt", json=body | {"sync": True})).json()
    assert waited_for["warnings"] == reply["warnings"]


async def test_a_prompt_that_is_polled():
    stub = Stub(ended=WAITING, position=3)
    check_json("read-waiting", (await client(stub).get("/prompt-svc/prompt/prom%2F1")).json())
    assert stub.asked == [("usr-1", "prom/1")]
    check_json("read-completed", (await client(Stub()).get("/prompt-svc/prompt/p")).json())


async def test_the_answer_to_a_synchronous_prompt():
    reply = await client(Stub()).post("/prompt-svc/prompt", json={"prompt": "x", "sync": True})
    assert reply.status_code == 200
    check_json("submit-sync", reply.json())


@pytest.mark.parametrize("status", [Status.RUNNING, Status.ERRORED, Status.ABANDONED, Status.CANCELED])
async def test_a_synchronous_prompt_without_an_answer_says_why(status: Status):
    reply = await client(Stub(ended=PROMPTS[status])).post("/prompt-svc/prompt", json={"prompt": "x", "sync": True})
    assert reply.status_code == 200
    check_json(f"submit-sync-{status}", reply.json())


async def test_a_list():
    stub = Stub()
    reply = await client(stub, "admin").post("/prompt-svc/prompts", json={"query": {"limit": 2, "count": True}})
    assert reply.status_code == 200
    check_json("list", reply.json())
    assert stub.asked[0][1] is None
    assert [document["prompt"] for document in stub.searched] == [WAITING.prompt, ""]


async def test_a_list_is_searched_for_files_that_its_prompts_do_not_show_and_not_for_those_of_others():
    stub = Stub()
    reply = await client(stub, "admin").post("/prompt-svc/prompts", json={"query": {}})
    assert [document.get("fileIds") for document in stub.searched] == [["file-1"], None]
    assert not any("fileIds" in prompt for prompt in reply.json()["prompts"])


async def test_a_list_that_goes_on_and_one_that_was_not_looked_through_to_its_end():
    stub = Stub()
    stub.listed = Page(prompts=[], after=wire.timestamp(WAITING.created_us))
    goes_on = (await client(stub).post("/prompt-svc/prompts", json={"query": {}})).json()
    stub.listed = replace(stub.listed, is_truncated=True, is_count_partial=True)
    cut = (await client(stub).post("/prompt-svc/prompts", json={"Query": {"count": True}})).json()
    check_json("list-goes-on", {"goes on": goes_on | {"prompts": []}, "cut off": cut | {"prompts": []}})


async def test_a_list_that_is_not_counted_is_the_callers_own():
    stub = Stub()
    reply = await client(stub).post("/prompt-svc/prompts")
    assert reply.json()["count"] == 0
    assert stub.asked[0][1] == "usr-1"


async def test_removing():
    stub = Stub()
    for reply in (
        await client(stub).delete("/prompt-svc/prompt/prom%2F1"),
        await client(stub).request("DELETE", "/prompt-svc/prompt/p", json={"promptId": "p"}),
        await client(stub).post("/prompt-svc/remove", json={"promptId": "p", "userId": "usr-2"}),
        await client(stub, "admin").post("/prompt-svc/remove", json={"promptId": "p"}),
        await client(stub, "admin").post("/prompt-svc/remove", json={"promptId": "p", "userId": "usr-2"}),
    ):
        assert (reply.status_code, reply.text) == (200, "{}")
    assert stub.asked == [("usr-1", "prom/1"), *[("usr-1", "p")] * 3, ("usr-2", "p")]


@pytest.mark.parametrize("body", [{}, {"promptId": ""}, {"promptId": {}}])
async def test_removing_nothing_is_refused(body: dict[str, Any]):
    reply = await client(Stub()).post("/prompt-svc/remove", json=body)
    assert reply.status_code == 400
    assert reply.json()["error"].startswith("promptId: got ")


async def test_a_delete_that_names_two_ids_is_refused():
    reply = await client(Stub()).request("DELETE", "/prompt-svc/prompt/a", json={"promptId": "b"})
    assert (reply.status_code, reply.json()) == (400, {"error": "promptId: got 'b', allowed is the id in the path"})


async def test_a_subscription_byte_for_byte():
    stub = Stub(events=tuple(EVENTS.values()))
    reply = await client(stub).get("/prompt-svc/prompts/thread%2012345/responses/subscribe")
    assert reply.status_code == 200
    check_text("subscription.txt", reply.text)
    assert stub.asked == [("usr-1", "thread 12345", None)]
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert reply.headers["cache-control"] == "no-store"


async def test_who_waits_for_a_model_that_starts_is_told_in_a_comment():
    events = (Waiting(ref="usr-1/cold"), Waiting(ref="usr-1/warm"))
    reply = await client(Stub(events=events)).get("/prompt-svc/prompts/t/responses/subscribe")
    assert reply.text == ": subscribed\n\n: org/small is starting\n\n"


async def test_a_subscription_resumes_by_last_event_id():
    stub = Stub()
    await client(stub).get("/prompt-svc/prompts/t/responses/subscribe", headers={"Last-Event-ID": "3-17"})
    assert stub.asked == [("usr-1", "t", Cursor(place=3, number=17))]


@pytest.mark.parametrize("last", ["3", "-", "3-x", "٣-1", "1" * 41, "1-2-3"])
async def test_an_invented_event_id_is_refused(last: str):
    header = {"Last-Event-ID": last.encode()}
    reply = await client(Stub()).get("/prompt-svc/prompts/t/responses/subscribe", headers=header)
    assert reply.status_code == 400
    assert reply.json()["error"].startswith("Last-Event-ID: got ")


async def test_types_have_nothing_to_say():
    reply = await client(Stub()).post("/prompt-svc/types", json={"anything": 1})
    assert (reply.status_code, reply.text) == (200, "{}")
