"""Who gets in at Open-Assistant's door: logins, tokens, programs that act for users; and that a chat is its owner's alone."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from deployments.ingress.doors.open_assistant.users import user_id_of
from deployments.ingress.tokens import Tokens, app_id_of
from deployments.settings import InvalidSettings
from pipeline.accounts import Account, Role
from tests.integration.ingress_app import KEY as SIGNING_KEY
from tests.integration.ingress_app import TOKENS, ingress_app, token
from tests.integration.open_assistant_door import KEY, MODEL, Door, User, asking, open_door, trusted


@pytest.fixture
async def door(redis_url: str) -> AsyncIterator[Door]:
    async with open_door(redis_url) as door:
        yield door


async def test_a_login_is_a_pair_of_tokens(door: Door):
    pair = await door.tokens("alice")
    assert {name: part["token_type"] for name, part in pair.items()} == {
        "access_token": "bearer",
        "refresh_token": "refresh",
    }
    alice = door.bearer(pair["access_token"]["access_token"])
    assert await alice.json("GET", "/auth/check") == "alice"
    # Whoever comes back is the same.
    chat = await alice.chat()
    again = await door.user("alice")
    assert [listed["id"] for listed in (await again.json("GET", "/chats"))["chats"]] == [chat]


@pytest.mark.parametrize("query", ["code=Ada%20L.&state=x", "code=%C3%84da", "code=usr-1", "code=1backend", "code=a:b"])
async def test_any_name_is_one(door: Door, query: str):
    answer = await door.app.send("GET", f"/auth/callback/debug?{query}")
    assert answer.status_code == 200
    user = door.bearer(answer.json()["access_token"]["access_token"])
    assert (await user.json("POST", "/user-svc/self"))["roles"] == [Role.USER]


@pytest.mark.parametrize(
    ("query", "status", "detail"),
    [
        ("code=", 400, "Username is required"),
        ("", 422, None),
        (f"code={'x' * 129}", 422, None),
        ("code=a%00b", 422, None),
    ],
)
async def test_a_name_that_is_none(door: Door, query: str, status: int, detail: str | None):
    answer = await door.app.send("GET", f"/auth/callback/debug?{query}")
    assert answer.status_code == status
    assert detail is None or answer.json() == {"detail": detail}


async def test_without_the_setting_nobody_gets_in_by_a_name(redis_url: str):
    async with open_door(redis_url, debug_login=False) as door:
        for path in ("/auth/callback/debug?code=alice", "/auth/login/debug?username=alice"):
            answer = await door.app.send("GET", path)
            assert (answer.status_code, answer.json()) == (403, {"detail": "Debug auth is not allowed"})
        assert (await door.app.send("GET", "/auth/providers")).json() == []


async def test_a_page_from_elsewhere_logs_nobody_in(door: Door):
    for origin, status in [("https://evil.example", 403), ("null", 403), ("http://[", 403), ("http://test", 200)]:
        answer = await door.app.send("GET", "/auth/callback/debug?code=alice", origin=origin)
        assert answer.status_code == status
        assert ("access_token" in answer.text) == (status == 200)


async def test_a_browser_is_sent_to_the_login(door: Door):
    answer = await door.app.send("GET", "/auth/login/debug?username=a%26b&state=s")
    assert (answer.status_code, answer.headers["location"]) == (302, "/auth/callback/debug?code=a%26b&state=s")
    assert (await door.app.send("GET", "/auth/login/debug")).status_code == 422
    assert (await door.app.send("GET", "/auth/providers")).json() == ["debug"]


async def test_a_refresh_token_is_good_for_access_tokens_and_for_nothing_else(door: Door):
    pair = await door.tokens("alice")
    access, refresh = (pair[name]["access_token"] for name in ("access_token", "refresh_token"))
    answer = await door.app.send("GET", "/auth/refresh", refresh=refresh)
    assert answer.status_code == 200
    assert answer.json()["token_type"] == "bearer"
    assert await door.bearer(answer.json()["access_token"]).json("GET", "/auth/check") == "alice"
    assert await refused(door.bearer(refresh)) == (400, "Invalid token type")
    for path in ("/prompt-svc/prompts", "/user-svc/self"):
        assert (await door.bearer(refresh).send("POST", path, {})).status_code == 401
    for wrong, status, detail in [
        (access, 400, "Invalid token type"),
        ("nonsense", 401, "Invalid token"),
        (refresh[:-1], 401, "Invalid token"),
        ("", 401, "Missing token"),
    ]:
        answer = await door.app.send("GET", "/auth/refresh", refresh=wrong)
        assert (answer.status_code, answer.json()) == (status, {"detail": detail})
    assert (await door.app.send("GET", "/auth/refresh")).status_code == 401


async def refused(user: User) -> tuple[int, str]:
    answer = await user.send("GET", "/chats")
    return answer.status_code, answer.json()["detail"]


async def test_tokens_that_are_no_good(door: Door):
    account = await door.app.user("bob")
    expired = Tokens(SIGNING_KEY, lifetime_s=60, clock=lambda: time.time() - 3600)
    old = expired.issue(account, app_id=app_id_of("x"), device="").encoded
    good = (await door.tokens("alice"))["access_token"]["access_token"]
    for headers, status, detail in [
        ({}, 403, "Not authenticated"),
        ({"authorization": ""}, 403, "Not authenticated"),
        ({"authorization": good}, 403, "Not authenticated"),
        ({"authorization": f"bearer {good}"}, 403, "Not authenticated"),
        ({"authorization": f"Basic {good}"}, 403, "Not authenticated"),
        ({"authorization": "Bearer nonsense"}, 401, "Invalid token"),
        ({"authorization": f"Bearer {good[:-8]}AAAAAAAA"}, 401, "Invalid token"),
        ({"authorization": f"Bearer {old}"}, 401, "Token expired"),
    ]:
        assert await refused(door.with_headers(headers)) == (status, detail), headers
    assert (await door.app.send("GET", f"/chats?token={good}&access_token={good}")).status_code == 403


async def test_an_access_token_lasts_an_hour(door: Door):
    before = time.time()
    pair = await door.tokens("alice")
    claims = TOKENS.verify(pair["access_token"]["access_token"])
    assert 3595 <= claims.expires_at - before <= 3605


async def test_users_of_the_service_get_in_with_their_tokens(door: Door):
    bob = door.with_headers({"authorization": token(await door.app.user("bob"))})
    chat, _, answer = await door.answered(bob)
    assert await bob.state(chat, answer) == "complete"
    gone = Account(id="usr-1", slug="x", password_hash="", roles=(Role.USER,), created_at=1, updated_at=1)
    assert await refused(door.with_headers({"authorization": token(gone)})) == (401, "Invalid token")
    guest = await door.app.user("guest", "user-svc:guest")
    refusal = await refused(door.with_headers({"authorization": token(guest)}))
    assert refusal == (401, "Unauthorized")


async def test_nobody_can_take_the_place_of_a_user_of_the_door(door: Door):
    alice = await door.user("alice")
    me = await alice.json("POST", "/user-svc/self")
    slug = me["user"]["slug"]
    body = {"appHost": "unnamed", "slug": slug, "password": "correct horse battery"}
    assert (await door.app.send("POST", "/user-svc/register", body)).status_code == 400
    for password in ("!", "", "correct horse battery"):
        login = await door.app.send("POST", "/user-svc/login", {**body, "password": password})
        assert login.status_code in (400, 401)
    change = {"currentPassword": "!", "newPassword": "correct horse battery"}
    assert (await alice.send("POST", "/user-svc/change-password", change)).status_code == 401


async def test_a_program_acts_for_the_users_it_names(door: Door):
    ada, bob = door.with_headers(trusted("1")), door.with_headers(trusted("2"))
    answer = await ada.send("POST", "/chats", {})
    assert (answer.status_code, answer.json()) == (404, {"detail": "User not found"})
    assert await ada.json("GET", "/chats") == {"chats": [], "next": None, "prev": None}
    made = await ada.json("POST", "/auth/trusted")
    assert made == {
        "id": "1",
        "provider": "website",
        "provider_account_id": "1@discord",
        "display_name": "Ada",
        "deleted": False,
    }
    assert await ada.json("POST", "/auth/trusted") == made
    chat, *_ = await door.answered(ada)
    assert await ada.json("GET", "/auth/check") == "1"
    await bob.json("POST", "/auth/trusted")
    assert (await bob.send("GET", f"/chats/{chat}")).status_code == 404
    # The same number at another program is somebody else, as is who logs in under it.
    for other in (door.with_headers(trusted("1", client="other")), await door.user("1")):
        assert (await other.send("GET", f"/chats/{chat}")).status_code == 404


async def test_a_programs_header_goes_before_a_token(door: Door):
    alice = await door.user("alice")
    both = door.with_headers({**alice.headers, **trusted("1")})
    assert await both.json("GET", "/auth/check") == "1"
    wrong = door.with_headers({**alice.headers, **trusted("1", key="guess")})
    assert await refused(wrong) == (401, "Unauthorized client")


def header(content: Any) -> dict[str, str]:
    return {"trustedclient": base64.b64encode(json.dumps(content).encode()).decode()}


USER = json.loads(base64.b64decode(trusted()["trustedclient"]))


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        ({"trustedclient": "%%%"}, "Invalid token"),
        ({"trustedclient": ""}, "Invalid token"),
        (header([]), "Invalid token"),
        (header({**USER, "user_id": 1}), "Invalid token"),
        (header({**USER, "user_id": ""}), "Invalid token"),
        (header({**USER, "user_id": "a\nb"}), "Invalid token"),
        (header({**USER, "user_id": "\ud800"}), "Invalid token"),
        (header({**USER, "client": "x" * 300}), "Invalid token"),
        (header({name: value for name, value in USER.items() if name != "username"}), "Invalid token"),
        (header({**USER, "api_key": ""}), "Unauthorized client"),
        (header({**USER, "api_key": "\ud800"}), "Unauthorized client"),
    ],
)
async def test_a_programs_header_that_is_no_good(door: Door, headers: dict[str, str], detail: str):
    user = door.with_headers(headers)
    for method, path in (("GET", "/chats"), ("POST", "/auth/trusted")):
        answer = await user.send(method, path)
        assert (answer.status_code, answer.json()) == (401, {"detail": detail})
        assert "trusted-key" not in answer.text


async def test_without_keys_no_program_gets_in(redis_url: str):
    async with open_door(redis_url, open_assistant={"trusted_client_keys": []}) as door:
        for key in ("", "trusted-key"):
            assert await refused(door.with_headers(trusted(key=key))) == (401, "Unauthorized client")
        answer = await door.app.send("POST", "/auth/trusted")
        assert (answer.status_code, answer.json()) == (401, {"detail": "Missing token"})


async def test_an_empty_key_is_none(redis_url: str):
    with pytest.raises(InvalidSettings, match="got an empty key"):
        async with open_door(redis_url, open_assistant={"trusted_client_keys": [""]}):
            pass


async def test_who_leaves_leaves_nothing(door: Door):
    pair = await door.tokens("alice")
    alice = door.bearer(pair["access_token"]["access_token"])
    chats = [(await door.answered(alice))[0] for _ in range(2)]
    answer = await alice.send("DELETE", "/account/")
    assert (answer.status_code, answer.content) == (200, b"")
    answer = await door.app.send("GET", "/auth/refresh", refresh=pair["refresh_token"]["access_token"])
    assert answer.status_code == 401
    answer = await alice.send("POST", "/chats", {})
    assert (answer.status_code, answer.json()) == (404, {"detail": "User not found"})
    again = await door.user("alice")
    assert (await again.json("GET", "/chats?include_hidden=true"))["chats"] == []
    for chat in chats:
        assert (await again.send("GET", f"/chats/{chat}")).status_code == 404
    # The token of the one who left does not come back with the name.
    answer = await door.app.send("GET", "/auth/refresh", refresh=pair["refresh_token"]["access_token"])
    assert answer.status_code == 401


async def test_an_account_of_user_svc_is_not_the_doors_to_delete(door: Door):
    bob = door.with_headers({"authorization": token(await door.app.user("bob"))})
    chat, *_ = await door.answered(bob)
    assert (await bob.send("DELETE", "/account/")).status_code == 403
    assert (await bob.send("GET", f"/chats/{chat}")).status_code == 200


#: Every route with an id: method, path behind the chat (MESSAGE is an answer), body, and what its owner gets.
ROUTES: list[tuple[str, str, Any, int]] = [
    ("GET", "", None, 200),
    ("PUT", "", {"title": "x"}, 200),
    ("POST", "/prompter_message", {"content": "x", "parent_id": "MESSAGE"}, 200),
    ("POST", "/assistant_message", asking("SAID"), 200),
    ("POST", "/messages", {"content": "x", "parent_id": "MESSAGE", "model_config_name": MODEL}, 200),
    ("GET", "/messages/MESSAGE", None, 200),
    ("GET", "/messages/MESSAGE/events", None, 204),
    ("POST", "/messages/MESSAGE/votes", {"score": 1}, 200),
    ("POST", "/messages/MESSAGE/message_evals", {"inferior_message_ids": []}, 200),
    ("POST", "/messages/MESSAGE/reports", {"report_type": "spam", "reason": "x"}, 200),
    ("DELETE", "", None, 200),
]


@pytest.mark.parametrize(("method", "rest", "body", "status"), ROUTES)
async def test_a_chat_is_its_owners_alone(door: Door, method: str, rest: str, body: Any, status: int):
    alice, bob = await door.user("alice"), await door.user("bob")
    admin = door.with_headers({"authorization": token(await door.app.admin())})
    chat, said, answer = await door.answered(alice)

    async def call(user: User, chat: str, said: str = said, answer: str = answer) -> tuple[int, bytes]:
        text = json.dumps(body).replace("MESSAGE", answer).replace("SAID", said)
        path = f"/chats/{chat}{rest.replace('MESSAGE', answer)}"
        reply = await user.send(method, path, None if body is None else json.loads(text))
        return reply.status_code, reply.content

    for nobody, expected in [
        ({}, 403),
        ({"authorization": "Bearer a.b.c"}, 401),
        (trusted(key="guess"), 401),
    ]:
        assert (await call(door.with_headers(nobody), chat))[0] == expected
    for other in (bob, admin):
        theirs = await call(other, chat)
        assert theirs[0] == 404
        # Somebody else's looks like nobody's.
        assert theirs == await call(other, "01890000-0000-7000-8000-000000000000", "unknown", "unknown")
        # Nor is it reached through a chat of one's own.
        own = await door.answered(other)
        if "MESSAGE" in rest:
            assert (await call(other, own[0]))[0] == 404
    assert (await call(alice, chat))[0] == status


def test_ids_of_users_are_those_of_the_service():
    assert user_id_of("open-assistant:debug:alice").startswith("usr-")
    assert len(user_id_of("open-assistant:debug:alice")) == len("usr-") + 22
    assert user_id_of("open-assistant:debug:alice") != user_id_of("open-assistant:debug:alicf")


async def test_a_store_that_is_away_is_a_503_in_the_words_of_the_door():
    account = Account(id="usr-1", slug="x", password_hash="", created_at=1, updated_at=1)
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        away = f"redis://127.0.0.1:{taken.getsockname()[1]}"
        async with ingress_app(away, debug_login=True, open_assistant={"trusted_client_keys": [KEY]}) as app:
            calls: list[tuple[str, str, Any, dict[str, str]]] = [
                ("GET", "/auth/callback/debug?code=alice", None, {}),
                ("GET", "/auth/refresh", None, {"refresh": "oar-x"}),
                ("POST", "/auth/trusted", None, trusted()),
                ("DELETE", "/account/", None, {}),
                ("POST", "/chats", {}, {}),
                ("GET", "/chats", None, {}),
                ("PUT", "/chats/hide_all", None, {}),
                *((method, f"/chats/c{rest}", body, {}) for method, rest, body, _ in ROUTES),
            ]
            for method, path, body, headers in calls:
                headers = headers or {"authorization": token(account)}
                answer = await app.send(method, path, body, **headers)
                assert (answer.status_code, list(answer.json())) == (503, ["detail"]), (method, path)
                assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("path", ["prompter_message", "assistant_message", "messages", "messages/m/votes"])
async def test_bodies_have_bounds(door: Door, path: str):
    alice = await door.user("alice")
    url = f"/chats/{await alice.chat()}/{path}"
    transport = httpx.ASGITransport(app=door.app.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=alice.headers) as client:
        for content, headers, status in [
            (b'{"padding": "' + b"x" * 1024 * 1024 + b'"}', {}, 413),
            (b"{}", {"content-encoding": "gzip"}, 415),
            (b"{", {}, 422),
            (b'{"content": "\\u0000"}', {}, 422),
            (b'{"content": "\\ud800"}', {}, 422),
            (b'{"a":' * 65 + b"1" + b"}" * 65, {}, 422),
        ]:
            answer = await client.post(url, content=content, headers=headers)
            assert (answer.status_code, list(answer.json())) == (status, ["detail"])
