"""chat-svc on the wire: snapshots of what it says, and what it refuses. The stores are stubs."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from deployments.ingress import wire
from deployments.ingress.auth import Gate, GuardedRoute, Permission
from deployments.ingress.bearers import Bearers
from deployments.ingress.chat_svc import ChatSvc
from deployments.ingress.events import UserEvents
from deployments.ingress.tokens import Claims
from deployments.ingress.web import web_app
from pipeline.accounts import Role
from pipeline.errors import Conflict, NotFound, Unauthorized
from pipeline.store.events import EventId
from pipeline.store.messages import Message, MessagePage
from pipeline.store.threads import Thread
from tests.unit.events_in_memory import StubbedEvents
from tests.unit.snapshot import check_json, check_text
from tests.unit.test_prompt_service import Files
from tests.unit.test_wire import ANSWER

THREAD = Thread(
    id="thr-1",
    user_id="usr-1",
    title="AI Assistant Chat",
    topic_ids=("topic-1",),
    created_us=1_773_561_898_000_001,
    updated_us=1_773_561_899_000_001,
    is_conversation=True,
)
BY_HAND = Message(
    id="msg-2",
    thread_id="thr-1",
    text="Look at <this>",
    user_id="usr-1",
    created_us=1_773_561_902_000_000,
    meta={"a": [1]},
    file_ids=("file-1",),
    updated_us=1_773_561_903_000_000,
)


class Stub:
    """Both stores; has one thread, one message, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def save(self, user_id: str, thread_id: str, *names: str, **fields: Any) -> Thread:
        self.asked.append((user_id, thread_id, *names, fields))
        if names and thread_id != "thr-1":
            raise NotFound
        if names == ("taken",):
            raise Conflict("id: a message of another thread has this id")
        return replace(THREAD, id=thread_id, title=fields.get("title") or fields.get("default_title", ""))

    async def get(self, user_id: str, thread_id: str) -> Thread:
        if (user_id, thread_id) != ("usr-1", "thr-1"):
            raise NotFound
        return THREAD

    async def get_many(self, user_id: str, ids: list[str]) -> list[Any]:
        self.asked.append((user_id, ids))
        known = {"thr-1": THREAD, "thr-2": replace(THREAD, id="thr-2", created_us=THREAD.created_us + 1)}
        return [known.get(thread_id) for thread_id in ids]

    async def by_ids(self, user_id: str, ids: list[str]) -> list[Message]:
        known = {"msg-1": replace(ANSWER, thread_id="thr-1"), "msg-2": BY_HAND}
        return [known[message_id] for message_id in ids if message_id in known]

    async def page(self, user_id: str, thread_id: str = "", **asked: Any) -> Any:
        self.asked.append((user_id, thread_id, asked))
        if "after_us" in asked:
            return [replace(THREAD, topic_ids=(), title=""), THREAD][: asked["limit"]]
        return MessagePage(messages=[replace(ANSWER, thread_id=thread_id), BY_HAND][: asked["limit"]], after=None)

    async def oldest(self, user_id: str, count: int) -> list[str]:
        return ["thr-0", "thr-1", "thr-2"][:count]

    async def delete(self, user_id: str, what: str) -> None:
        self.asked.append((user_id, what))
        if what not in ("thr-1", "msg-2", "a/b"):
            raise NotFound


class Tokens:
    """The token is what it says: a user's id, and roles behind a colon."""

    def verify(self, encoded: str) -> Claims:
        user_id, _, roles = encoded.partition(":")
        if not user_id.startswith("usr-"):
            raise Unauthorized
        granted = tuple(roles.split(",")) if roles else (Role.USER,)
        return Claims(user_id=user_id, slug="x", roles=granted, app_id="a", device="", token_id="t", expires_at=2**31)


def routes(stub: Stub) -> list[GuardedRoute]:
    settings: Any = SimpleNamespace(max_body_bytes=1024 * 1024)
    service: Any = stub
    nothing: Any = None
    events = UserEvents(nothing, nothing, heartbeat_s=15.0)
    return ChatSvc(settings, service, service, events, files=Files()).routes(Gate(Bearers(Tokens())))  # type: ignore[arg-type]


def client(stub: Stub, token: str = "usr-1") -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=web_app(routes(stub))), base_url="http://t", headers=headers
    )


def test_the_objects() -> None:
    check_json("thread", wire.thread_object(THREAD))
    check_json("thread-bare", wire.thread_object(replace(THREAD, title="", topic_ids=())))
    check_json("message-by-hand", wire.message_object(BY_HAND))


@pytest.mark.parametrize(
    "body",
    [
        {"title": "Mine", "topicIds": ["a"], "id": "t"},
        {"threadData": {"title": "Mine", "topicIds": ["a"], "id": "t"}},
        {"ThreadData": '{"title": "Mine", "topicIds": "[\\"a\\"]", "id": "t"}'},
        {"thread": {"title": "Mine", "topicIds": "a", "id": "t", "userIds": ["usr-1"]}, "title": "not this"},
        {"threadData": {"title": "Mine", "topicIds": ["a"], "id": "t", "createdAt": "x", "conversation": False}},
    ],
)
async def test_every_spelling_of_saving_a_thread(body: dict[str, Any]) -> None:
    stub = Stub()
    reply = await client(stub).post("/chat-svc/thread", json=body)
    assert reply.status_code == 200, reply.text
    assert stub.asked == [("usr-1", "t", {"default_title": "New chat", "title": "Mine", "topic_ids": ("a",)})]
    assert reply.json() == {"thread": wire.thread_object(replace(THREAD, id="t", title="Mine"))}


async def test_a_thread_without_anything_gets_an_id_and_a_title() -> None:
    reply = await client(Stub()).post("/chat-svc/thread")
    thread = reply.json()["thread"]
    assert thread["id"].startswith("thr-")
    assert len(thread["id"]) == 26
    assert thread["title"] == "New chat"


async def test_one_thread() -> None:
    check_json("thread-get", (await client(Stub()).get("/chat-svc/thread/thr-1")).json())


async def test_a_list_of_threads() -> None:
    stub = Stub()
    reply = await client(stub).post("/chat-svc/threads", json={"after": "17"})
    check_json("threads", reply.json())
    assert stub.asked == [("usr-1", "", {"limit": 1000, "after_us": 17})]


async def test_a_page_of_threads_says_where_the_next_one_begins() -> None:
    reply = await client(Stub()).post("/chat-svc/threads", json={"limit": 1})
    assert reply.json()["after"] == str(THREAD.created_us)


async def test_threads_by_id_are_the_callers_newest_first() -> None:
    stub = Stub()
    reply = await client(stub).post("/chat-svc/threads", json={"ids": ["thr-1", "thr-9", "thr-2", "thr-1"]})
    assert [thread["id"] for thread in reply.json()["threads"]] == ["thr-2", "thr-1"]
    assert stub.asked == [("usr-1", ["thr-1", "thr-9", "thr-2"])]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_messages_of_a_thread(method: str) -> None:
    stub = Stub()
    reply = await client(stub).request(method, "/chat-svc/thread/thr-1/messages?env=&help=false")
    check_json("messages", reply.json())
    assert stub.asked == [("usr-1", "thr-1", {"limit": 1000, "after": None})]


async def test_messages_of_a_thread_from_the_general_list() -> None:
    stub = Stub()
    reply = await client(stub).post("/chat-svc/messages", json={"threadId": "thr-9", "limit": 1, "after": "5"})
    assert [message["id"] for message in reply.json()["messages"]] == ["msg-1"]
    assert stub.asked == [("usr-1", "thr-9", {"limit": 1, "after": 5})]


async def test_messages_by_id_oldest_first() -> None:
    reply = await client(Stub()).post("/chat-svc/messages", json={"ids": '["msg-2", "msg-1", "none"]'})
    assert [message["id"] for message in reply.json()["messages"]] == ["msg-1", "msg-2"]
    reply = await client(Stub()).post("/chat-svc/messages", json={"ids": ["msg-2"], "threadId": "thr-9"})
    assert reply.json() == {"messages": []}


async def test_all_messages_are_those_of_the_callers_threads_up_to_the_limit() -> None:
    stub = Stub()
    reply = await client(stub).post("/chat-svc/messages", json={"limit": 3})
    assert [message["threadId"] for message in reply.json()["messages"]] == ["thr-0", "thr-1", "thr-1"]
    assert {user for user, *_ in stub.asked} == {"usr-1"}
    reply = await client(Stub()).post("/chat-svc/messages")
    assert len(reply.json()["messages"]) == 6


async def test_posting_a_message() -> None:
    stub = Stub()
    body = {
        "text": 5,
        "fileIds": '["file-mine"]',
        "meta": '{"a": 1}',
        "id": "m",
        "userId": "usr-1",
        "threadId": "not this",
    }
    reply = await client(stub).post("/chat-svc/thread/thr-1/message", json=body)
    assert (reply.status_code, reply.text) == (200, "{}")
    await client(stub).post("/chat-svc/thread/thr-1/message", json={"text": "x", "role": "assistant"})
    fields = {"text": "5", "is_answer": False, "file_ids": ("file-mine",), "meta": {"a": 1}}
    assert stub.asked[0] == ("usr-1", "thr-1", "m", fields)
    assert stub.asked[1][2].startswith("msg-")
    assert stub.asked[1][3]["is_answer"]


@pytest.mark.parametrize(
    ("user_id", "file_ids", "named"),
    [
        ("usr-2", ["file-mine"], "file-mine"),
        ("usr-1", ["file-none"], "file-none"),
        ("usr-1", ["file-mine", "file-none"], "file-none"),
    ],
)
async def test_a_file_of_somebody_else_is_refused_like_one_that_is_not_there(
    user_id: str, file_ids: list[str], named: str
) -> None:
    stub = Stub()
    body = {"text": "x", "fileIds": file_ids}
    reply = await client(stub, user_id).post("/chat-svc/thread/thr-1/message", json=body)
    assert reply.status_code == 400
    assert reply.json() == {"error": f"fileIds: got '{named}', allowed is the ids of files of your own"}
    assert stub.asked == []


async def test_deleting() -> None:
    stub = Stub()
    for path in ("/chat-svc/thread/thr-1", "/chat-svc/message/msg-2", "/chat-svc/message/a%2Fb"):
        reply = await client(stub).delete(path)
        assert (reply.status_code, reply.text) == (200, "{}")
    assert stub.asked == [("usr-1", "thr-1"), ("usr-1", "msg-2"), ("usr-1", "a/b")]


@pytest.mark.parametrize("path", ["/chat-svc/events", "/chat-svc/evens"])
async def test_events_byte_for_byte_are_those_of_chats(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stubbed = StubbedEvents.put_in(monkeypatch)
    reply = await client(Stub()).get(path)
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    check_text("chat-events.txt", reply.text)
    await client(Stub()).get(path, headers={"Last-Event-ID": "1767225600000-3"})
    assert stubbed.asked == [("usr-1", None), ("usr-1", EventId(1767225600000, 3))]


REFUSED: dict[str, tuple[str, str, Any, str]] = {
    "title of the wrong type": ("POST", "/thread", {"title": ["x"]}, "title: got an array"),
    "title too long": ("POST", "/thread", {"title": "x" * 1001}, "title: got a string of 1001 characters"),
    "thread data that is none": ("POST", "/thread", {"threadData": "x"}, "threadData: got a string of 1 characters"),
    "id too long": ("POST", "/thread", {"id": "x" * 257}, "id: got a string of 257 characters"),
    "id with a line end": ("POST", "/thread", {"id": "x\n"}, "id: got"),
    "another member": ("POST", "/thread", {"userIds": ["usr-2"]}, "userIds: got ['usr-2'], allowed is your own id"),
    "too many topics": ("POST", "/thread", {"topicIds": ["x"] * 101}, "topicIds: got an array"),
    "topic without an id": ("POST", "/thread", {"topicIds": [""]}, "topicIds: got an array"),
    "too many ids": ("POST", "/messages", {"ids": ["x"] * 1001}, "ids: got an array"),
    "ids of the wrong type": ("POST", "/threads", {"ids": [{}]}, "ids"),
    "limit 0": ("POST", "/threads", {"limit": 0}, "limit: got 0, allowed is an integer from 1 to 1000"),
    "limit too high": ("POST", "/messages", {"limit": 1001}, "limit: got 1001"),
    "after what never was": ("POST", "/messages", {"after": "x"}, 'after: got "x"'),
    "a page of messages behind nothing": ("GET", "/thread/thr-1/messages", {"after": -1}, "after: got -1"),
    "no message": ("POST", "/thread/thr-1/message", {}, "text: got a string of 0 characters"),
    "a blank message": ("POST", "/thread/thr-1/message", {"text": " \n"}, "text: got a string of 2 characters"),
    "text of the wrong type": ("POST", "/thread/thr-1/message", {"text": {"a": 1}}, "text: got an object"),
    "somebody else's words": ("POST", "/thread/thr-1/message", {"text": "x", "userId": "usr-2"}, "userId: got"),
    "a role nobody has": ("POST", "/thread/thr-1/message", {"text": "x", "role": "system"}, 'role: got "system"'),
    "metadata that is none": ("POST", "/thread/thr-1/message", {"text": "x", "meta": 5}, "meta: got a number"),
    "too many files": ("POST", "/thread/thr-1/message", {"fileIds": ["f"] * 101}, "fileIds: got an array"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_bad_input_is_refused_by_name(name: str) -> None:
    method, path, body, message = REFUSED[name]
    stub = Stub()
    reply = await client(stub).request(method, f"/chat-svc{path}", json=body)
    assert reply.status_code == 400, reply.text
    assert list(reply.json()) == ["error"]
    assert message in reply.json()["error"]
    assert stub.asked == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/thread/{}"),
        ("DELETE", "/thread/{}"),
        ("GET", "/thread/{}/messages"),
        ("POST", "/thread/{}/messages"),
        ("POST", "/thread/{}/message"),
        ("DELETE", "/message/{}"),
    ],
)
async def test_what_is_not_there_is_a_404(method: str, path: str) -> None:
    body = {"text": "x"} if path.endswith("message") else {}
    for missing in ("none", "%00", "x" * 300):
        reply = await client(Stub()).request(method, "/chat-svc" + path.format(missing), json=body)
        assert (reply.status_code, reply.json()) == (404, {"error": "Not Found"})


async def test_a_message_id_of_another_thread_is_a_conflict() -> None:
    reply = await client(Stub()).post("/chat-svc/thread/thr-1/message", json={"text": "x", "id": "taken"})
    assert (reply.status_code, reply.json()) == (409, {"error": "id: a message of another thread has this id"})


@pytest.mark.parametrize("path", ["/thread", "/threads", "/messages", "/thread/t/message", "/thread/t/messages"])
async def test_a_body_that_is_too_large_is_a_413(path: str) -> None:
    reply = await client(Stub()).post(f"/chat-svc{path}", content=b"x" * (1024 * 1024 + 1))
    assert reply.status_code == 413


async def test_every_route_needs_a_token_and_its_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    StubbedEvents.put_in(monkeypatch)
    for route in routes(Stub()):
        method = next(iter((route.methods or set()) - {"HEAD"}))
        path = route.path.replace("{thread_id}", "thr-1").replace("{message_id}", "msg-2")
        for token in ("", "bad"):
            reply = await client(Stub(), token).request(method, path)
            assert (reply.status_code, reply.json()) == (401, {"error": "Unauthorized"}), path
        reply = await client(Stub(), "usr-1:user-svc:guest").request(method, path)
        assert (reply.status_code == 401) == isinstance(route.access, Permission), path
