"""Open-Assistant's chats: making, listing, changing, hiding and deleting them; messages as a tree; what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from pipeline.store.connection import connect_patient
from tests.integration.open_assistant_door import MODEL, Door, User, asking, open_door


@pytest.fixture
async def door(redis_url: str) -> AsyncIterator[Door]:
    async with open_door(redis_url) as door:
        yield door


@pytest.fixture
async def alice(door: Door) -> User:
    return await door.user("alice")


async def titles(user: User, query: str = "") -> list[str | None]:
    return [chat["title"] for chat in (await user.json("GET", f"/chats{query}"))["chats"]]


async def titled(user: User, *names: str) -> list[str]:
    """Chats of these titles; their ids."""
    chats = []
    for name in names:
        chats.append(await user.chat())
        await user.json("PUT", f"/chats/{chats[-1]}", {"title": name})
    return chats


async def test_a_chat_begins_empty(alice: User):
    made = await alice.json("POST", "/chats", {})
    assert {name: made[name] for name in made if name not in ("id", "created_at", "modified_at")} == {
        "title": None,
        "hidden": False,
        "allow_data_use": True,
        "active_thread_tail_message_id": None,
    }
    assert len(made["created_at"]) == len("2023-05-01T12:00:00.123456")
    assert await alice.json("GET", f"/chats/{made['id']}") == {**made, "messages": []}


@pytest.mark.parametrize("body", [b"", b'""', b"{}", b'{"unknown": 1}'])
async def test_a_chat_is_made_whatever_is_sent(door: Door, alice: User, body: bytes):
    transport = httpx.ASGITransport(app=door.app.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.post("/chats", content=body, headers=alice.headers)
    assert answer.status_code == 200


async def test_the_first_message_is_the_title_however_long(alice: User):
    chat = await alice.chat()
    await alice.say(chat, "word " * 100)
    assert await titles(alice) == ["word " * 100]


async def test_a_title_that_was_given_stays(alice: User):
    (chat,) = await titled(alice, "Mine")
    await alice.say(chat, "Hi")
    assert await titles(alice) == ["Mine"]


async def test_pages_go_forth_and_back(alice: User):
    await titled(alice, *"abcde")
    first = await alice.json("GET", "/chats?limit=2")
    assert ([chat["title"] for chat in first["chats"]], first["prev"]) == (["e", "d"], None)
    second = await alice.json("GET", f"/chats?limit=2&after={first['next']}")
    assert [chat["title"] for chat in second["chats"]] == ["c", "b"]
    third = await alice.json("GET", f"/chats?limit=2&after={second['next']}")
    assert ([chat["title"] for chat in third["chats"]], third["next"]) == (["a"], None)
    back = await alice.json("GET", f"/chats?limit=2&before={third['prev']}")
    assert [chat["title"] for chat in back["chats"]] == ["c", "b"]
    assert back["next"] is not None
    assert back["prev"] is not None
    newest = await alice.json("GET", f"/chats?limit=2&before={back['prev']}")
    assert ([chat["title"] for chat in newest["chats"]], newest["prev"]) == (["e", "d"], None)
    # Behind the end there is nothing, and the way back.
    end = third["prev"]
    nothing = await alice.json("GET", f"/chats?limit=2&before={newest['next']}&include_hidden=true")
    assert [chat["title"] for chat in nothing["chats"]] == ["e"]
    assert (await alice.json("GET", f"/chats?after={end}"))["chats"] == []
    assert (await alice.json("GET", f"/chats?after={end}"))["prev"] == end


async def test_a_page_goes_on_behind_a_chat_that_was_deleted(alice: User):
    await titled(alice, *"abc")
    first = await alice.json("GET", "/chats?limit=2")
    await alice.send("DELETE", f"/chats/{first['chats'][-1]['id']}")
    assert await titles(alice, f"?after={first['next']}") == ["a"]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("limit=0", 422),
        ("limit=101", 422),
        ("limit=x", 422),
        ("include_hidden=perhaps", 422),
        ("after=%20", 422),
        ("after=YQ==&before=YQ==", 400),
        ("limit=100&include_hidden=true", 200),
    ],
)
async def test_a_wrong_query_is_refused(alice: User, query: str, status: int):
    assert (await alice.send("GET", f"/chats?{query}")).status_code == status


async def test_hidden_chats_are_listed_for_who_asks(alice: User):
    one, two = await titled(alice, "one", "two")
    await alice.json("PUT", f"/chats/{one}", {"hidden": True})
    assert await titles(alice) == ["two"]
    assert await titles(alice, "?include_hidden=true") == ["two", "one"]
    assert (await alice.json("GET", f"/chats/{one}"))["hidden"] is True
    await alice.json("PUT", f"/chats/{one}", {"hidden": False})
    assert await titles(alice) == ["two", "one"]
    assert await alice.json("PUT", "/chats/hide_all") is None
    assert await titles(alice) == []
    assert (await alice.json("GET", f"/chats/{two}"))["hidden"] is True


async def test_what_is_not_given_stays(door: Door, alice: User):
    chat, said, _ = await door.answered(alice)
    assert await alice.json("PUT", f"/chats/{chat}", {"allow_data_use": False, "title": None}) is None
    await alice.json("PUT", f"/chats/{chat}", {"active_thread_tail_message_id": said})
    read = await alice.json("GET", f"/chats/{chat}")
    assert (read["title"], read["allow_data_use"], read["active_thread_tail_message_id"]) == ("Hi", False, said)
    # Listings leave it out, as the original's do.
    (listed,) = (await alice.json("GET", "/chats"))["chats"]
    assert listed["active_thread_tail_message_id"] is None
    other = await alice.chat()
    refused = await alice.send("PUT", f"/chats/{other}", {"active_thread_tail_message_id": said})
    assert refused.status_code == 400


async def test_an_answer_may_follow_every_answer_that_is_complete(door: Door, alice: User):
    chat, said, first = await door.answered(alice)
    second = await alice.ask(chat, said)
    await door.replica.answer("Good day")
    followed = await alice.say(chat, "And?", parent=second)
    tree = {m["id"]: (m["parent_id"], m["role"], m["state"], m["content"]) for m in (await whole(alice, chat))}
    assert tree == {
        said: (None, "prompter", "manual", "Hi"),
        first: (said, "assistant", "complete", "Hello"),
        second: (said, "assistant", "complete", "Good day"),
        followed: (second, "prompter", "manual", "And?"),
    }
    assert list(tree) == [said, first, second, followed]


async def whole(user: User, chat: str) -> list[dict[str, Any]]:
    return list((await user.json("GET", f"/chats/{chat}"))["messages"])


async def test_a_message_needs_the_right_parent(door: Door, alice: User):
    chat, said, _ = await door.answered(alice)
    waiting = await alice.ask(chat, said)

    async def refused(content: Any, parent: str | None) -> tuple[int, str]:
        body = {"content": content, "parent_id": parent}
        answer = await alice.send("POST", f"/chats/{chat}/prompter_message", body)
        return answer.status_code, answer.json()["detail"]

    assert await refused("x", None) == (400, "Trying to add first message to non-empty chat")
    assert await refused("x", said) == (400, "Parent message is not an assistant message")
    assert await refused("x", waiting) == (400, "Parent message is not complete")
    assert await refused("x", "unknown") == (400, "Parent message not found")
    other, _, elsewhere = await door.answered(alice)
    assert other != chat
    assert await refused("x", elsewhere) == (400, "Parent message not found")
    empty = await alice.chat()
    answer = await alice.send("POST", f"/chats/{empty}/prompter_message", {"content": "x", "parent_id": "unknown"})
    assert (answer.status_code, answer.json()) == (400, {"detail": "Parent message not found"})


async def test_an_answer_needs_a_message_of_the_users_in_this_chat(door: Door, alice: User):
    chat, said, answered = await door.answered(alice)
    other = await alice.chat()
    for where, parent, status, detail in [
        (chat, answered, 400, "Parent message is not a prompter message"),
        (chat, "unknown", 400, "Message not found"),
        (other, said, 400, "Message not found"),
        ("unknown", said, 404, "Chat not found"),
    ]:
        answer = await alice.send("POST", f"/chats/{where}/assistant_message", asking(parent))
        assert (answer.status_code, answer.json()) == (status, {"detail": detail})


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"model_config_name": "unknown"}, "Model unknown not found"),
        ({"model_config_name": ""}, "Model  not found"),
        ({"plugins": [{"url": "https://x"}]}, "Plugins are not supported"),
    ],
)
async def test_what_is_not_there_is_said_in_words(alice: User, change: dict[str, Any], detail: str):
    chat = await alice.chat()
    said = await alice.say(chat, "Hi")
    answer = await alice.send("POST", f"/chats/{chat}/assistant_message", asking(said, **change))
    assert (answer.status_code, answer.json()) == (422, {"detail": detail})
    assert len(await whole(alice, chat)) == 1


@pytest.mark.parametrize(
    ("path", "body", "loc", "kind"),
    [
        ("prompter_message", {}, ["body", "content"], "value_error.missing"),
        ("prompter_message", {"content": None}, ["body", "content"], "type_error.none.not_allowed"),
        ("prompter_message", {"content": ["x"]}, ["body", "content"], "type_error.str"),
        ("prompter_message", [], ["body"], "type_error.dict"),
        ("prompter_message", None, ["body"], "value_error.missing"),
        ("assistant_message", {"parent_id": "x"}, ["body", "model_config_name"], "value_error.missing"),
        (
            "assistant_message",
            asking("x", sampling_parameters={"temperature": -1}),
            ["body", "sampling_parameters", "temperature"],
            "value_error.number.not_ge",
        ),
        (
            "assistant_message",
            asking("x", sampling_parameters={"top_k": "many"}),
            ["body", "sampling_parameters", "top_k"],
            "type_error.integer",
        ),
        (
            "assistant_message",
            asking("x", sampling_parameters={"top_p": 0}),
            ["body", "sampling_parameters", "top_p"],
            "value_error.number.not_gt",
        ),
        ("assistant_message", asking("x", plugins=[{}]), ["body", "plugins", 0, "url"], "value_error.missing"),
        ("messages", {"content": "x"}, ["body", "model_config_name"], "value_error.missing"),
        ("messages/m/reports", {"report_type": "x", "reason": ""}, ["body", "report_type"], "type_error.enum"),
        ("messages/m/votes", {"score": "x"}, ["body", "score"], "type_error.integer"),
        ("messages/m/message_evals", {}, ["body", "inferior_message_ids"], "value_error.missing"),
    ],
)
async def test_a_wrong_field_is_named(alice: User, path: str, body: Any, loc: list[Any], kind: str):
    chat = await alice.chat()
    answer = await alice.send("POST", f"/chats/{chat}/{path}", body)
    assert answer.status_code == 422, answer.text
    (problem,) = answer.json()["detail"]
    assert (problem["loc"], problem["type"]) == (loc, kind)


async def test_a_title_has_at_most_a_hundred_characters(alice: User):
    chat = await alice.chat()
    assert (await alice.send("PUT", f"/chats/{chat}", {"title": "x" * 100})).status_code == 200
    answer = await alice.send("PUT", f"/chats/{chat}", {"title": "x" * 101})
    assert answer.status_code == 422
    assert answer.json()["detail"][0] == {
        "loc": ["body", "title"],
        "msg": "ensure this value has at most 100 characters",
        "type": "value_error.any_str.max_length",
    }


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_an_unknown_chat_is_404(alice: User, method: str):
    answer = await alice.send(method, "/chats/unknown", {} if method == "PUT" else None)
    assert (answer.status_code, answer.json()) == (404, {"detail": "Chat not found"})


async def test_errors_of_the_framework_are_in_the_doors_words(alice: User):
    answer = await alice.send("GET", "/chats/x/y/z")
    assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})
    answer = await alice.send("PATCH", "/chats")
    assert (answer.status_code, answer.json()) == (405, {"detail": "Method Not Allowed"})


async def test_limits_of_length_and_number(redis_url: str):
    async with open_door(redis_url, open_assistant={"message_max_length": 5, "chat_max_messages": 3}) as door:
        alice = await door.user()
        chat = await alice.chat()
        for where in ("prompter_message", "messages"):
            body = {"content": "x" * 6, "model_config_name": MODEL}
            answer = await alice.send("POST", f"/chats/{chat}/{where}", body)
            assert (answer.status_code, answer.json()) == (413, {"detail": "Message content exceeds max length"})
        said = await alice.say(chat, "x" * 5)
        first = await alice.ask(chat, said)
        await door.replica.answer("one")
        await alice.ask(chat, said)
        full = (413, {"detail": "Maximum number of messages reached for this chat"})
        answer = await alice.send("POST", f"/chats/{chat}/assistant_message", asking(said))
        assert (answer.status_code, answer.json()) == full
        answer = await alice.send("POST", f"/chats/{chat}/prompter_message", {"content": "x", "parent_id": first})
        assert (answer.status_code, answer.json()) == full
        prompts = await alice.json("POST", "/prompt-svc/prompts", {"query": {"filters": [], "count": True}})
        assert prompts["count"] == 1, "a refused answer left its prompt behind"


async def test_a_queue_that_is_full_is_503(redis_url: str):
    async with open_door(redis_url, open_assistant={"queue_max_size": 1}) as door:
        alice = await door.user()
        chat = await alice.chat()
        said = await alice.say(chat, "Hi")
        await alice.ask(chat, said)
        busy = (503, {"detail": "The server is currently busy. Please try again later."})
        answer = await alice.send("POST", f"/chats/{chat}/assistant_message", asking(said))
        assert (answer.status_code, answer.json()) == busy
        assert int(answer.headers["retry-after"]) > 0
        other = await alice.chat()
        body = {"content": "x", "model_config_name": MODEL}
        answer = await alice.send("POST", f"/chats/{other}/messages", body)
        assert (answer.status_code, answer.json()) == busy
        assert await whole(alice, other) == [], "the first step was taken"


async def test_too_many_answers_are_429_for_that_user(redis_url: str):
    async with open_door(redis_url, open_assistant={"rate_limit_messages": 2, "rate_limit_s": 60}) as door:
        alice, bob = await door.user("alice"), await door.user("bob")
        chat = await alice.chat()
        said = await alice.say(chat, "Hi")
        await alice.ask(chat, said)
        await alice.ask(chat, said)
        answer = await alice.send("POST", f"/chats/{chat}/assistant_message", asking(said))
        assert answer.status_code == 429
        assert answer.json()["detail"].startswith("Too Many Requests. Retry After ")
        assert 0 < int(answer.headers["retry-after"]) <= 62
        chat = await bob.chat()
        await bob.ask(chat, await bob.say(chat, "Hi"))


async def test_both_in_one_step(door: Door, alice: User):
    chat = await alice.chat()
    body = {"parent_id": None, "content": "Hi", "model_config_name": MODEL, "sampling_parameters": {}}
    made = await alice.json("POST", f"/chats/{chat}/messages", body)
    assert made["message_id"] == made["assistant_message"]["id"]
    assert made["assistant_message"]["parent_id"] == made["prompter_message"]["id"]
    await door.replica.answer("Hello")
    assert [m["content"] for m in await whole(alice, chat)] == ["Hi", "Hello"]
    more = {**body, "parent_id": made["message_id"], "content": "And?"}
    await alice.json("POST", f"/chats/{chat}/messages", more)
    refused = await alice.send("POST", f"/chats/{chat}/messages", {**body, "model_config_name": "unknown"})
    assert (refused.status_code, refused.json()) == (422, {"detail": "Model unknown not found"})
    assert (await alice.send("POST", "/chats/unknown/messages", body)).status_code == 404


async def test_a_deleted_chat_leaves_nothing(door: Door, alice: User, redis_url: str):
    chat, said, answered = await door.answered(alice, "CANARY-question", "CANARY-answer")
    report = {"report_type": "spam", "reason": "CANARY-reason"}
    await alice.send("POST", f"/chats/{chat}/messages/{answered}/reports", report)
    running = await alice.ask(chat, said)
    attempt = await door.replica.take()
    answer = await alice.send("DELETE", f"/chats/{chat}")
    assert (answer.status_code, answer.content) == (200, b"")
    for path in (f"/chats/{chat}", f"/chats/{chat}/messages/{said}", f"/chats/{chat}/messages/{running}/events"):
        assert (await alice.send("GET", path)).status_code == 404
    assert (await alice.send("DELETE", f"/chats/{chat}")).status_code == 404
    assert attempt.ref.endswith(running)
    client = connect_patient(redis_url)
    assert await texts_left(client) == []
    await client.aclose()


async def texts_left(client: Any) -> list[str]:
    """Keys that the canary is in."""
    found = []
    async for key in client.scan_iter():
        kind = (await client.type(key)).decode()
        match kind:
            case "hash":
                content = await client.hgetall(key)
            case "stream":
                content = await client.xrange(key)
            case "string":
                content = await client.get(key)
            case _:
                content = await client.zrange(key, 0, -1)
        if b"CANARY" in repr(content).encode():
            found.append(key.decode())
    return found


async def test_a_deletion_that_broke_off_goes_on(door: Door, alice: User, redis_url: str):
    chat, said, _ = await door.answered(alice, "CANARY", "CANARY")
    client = connect_patient(redis_url)
    (key,) = [key async for key in client.scan_iter(match=f"ps:oa-chat:*{chat}")]
    # As the first step of a deletion leaves it.
    await client.hdel(key, "created")
    await client.hset(key, "deleting", 1)
    for path in (f"/chats/{chat}", f"/chats/{chat}/messages/{said}"):
        assert (await alice.send("GET", path)).status_code == 404
    more = await alice.send("POST", f"/chats/{chat}/assistant_message", asking(said))
    assert (more.status_code, more.json()) == (404, {"detail": "Chat not found"})
    assert await titles(alice, "?include_hidden=true") == []
    assert await texts_left(client) != []
    assert (await alice.send("DELETE", f"/chats/{chat}")).status_code == 200
    assert await texts_left(client) == []
    await client.aclose()


async def test_votes_and_reports_are_kept(door: Door, alice: User):
    chat, said, answered = await door.answered(alice)
    other = await alice.ask(chat, said)
    base = f"/chats/{chat}/messages/{answered}"
    for path, body in [
        ("votes", {"score": 1}),
        ("reports", {"report_type": "offensive", "reason": "rude"}),
        ("message_evals", {"inferior_message_ids": [other]}),
    ]:
        answer = await alice.send("POST", f"{base}/{path}", body)
        assert (answer.status_code, answer.content) == (200, b""), path
        refused = await alice.send("POST", f"/chats/{chat}/messages/{said}/{path}", body)
        assert refused.status_code == 400
        missing = await alice.send("POST", f"/chats/{chat}/messages/unknown/{path}", body)
        assert (missing.status_code, missing.json()) == (404, {"detail": "Message not found"})
    read = await alice.message(chat, answered)
    (report,) = read["reports"]
    assert (read["score"], report["report_type"], report["reason"]) == (1, "offensive", "rude")
    assert (await alice.send("POST", f"{base}/votes", {"score": 2})).status_code == 400
    unknown = {"inferior_message_ids": ["unknown"]}
    assert (await alice.send("POST", f"{base}/message_evals", unknown)).status_code == 404
    for _ in range(19):
        await alice.send("POST", f"{base}/reports", {"report_type": "spam", "reason": ""})
    full = await alice.send("POST", f"{base}/reports", {"report_type": "spam", "reason": ""})
    assert full.status_code == 413
