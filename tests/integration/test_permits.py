"""Permits, ``self/has`` and changed passwords on two replicas of the service."""

from __future__ import annotations

import re
from typing import Any

import pytest

from deployments.ingress.tokens import app_id_of
from pipeline.accounts import Account, Role
from pipeline.permits import MOST_PERMITS
from tests.integration.ingress_app import PASSWORD, IngressApp, ingress_app
from tests.waiting import until_true

VIEW = "policy-svc:instance:view"
APP = app_id_of("unnamed")
INSTANCES = ("POST", "/policy-svc/instances")


async def save(replica: IngressApp, admin: Account, *permits: dict[str, Any]) -> list[dict[str, Any]]:
    answer = await replica.send("PUT", "/user-svc/permits", {"permits": list(permits)}, as_=admin)
    assert answer.status_code == 200, answer.text
    saved: list[dict[str, Any]] = answer.json()["permits"]
    return saved


def masked(value: Any) -> Any:
    """Without what differs from run to run."""
    text = re.sub(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "<time>", repr(value))
    return re.sub(r"perm-[0-9a-f]{32}|usr-[0-9A-Za-z]{22}", "<id>", text)


async def test_a_permit_works_on_every_replica_without_a_new_token(
    replicas: list[IngressApp], admin: Account, alice: Account
):
    one, two = replicas
    bob = await one.user("bob")
    assert [(await r.send(*INSTANCES, as_=alice)).status_code for r in replicas] == [401, 401]
    (saved,) = await save(one, admin, {"permission": VIEW, "slugs": ["alice"]})
    assert (await one.send(*INSTANCES, as_=alice)).status_code == 200

    async def is_let_in() -> bool:
        return (await two.send(*INSTANCES, as_=alice)).status_code == 200

    await until_true(is_let_in, timeout_s=2, what="the permit on the other replica")
    assert (await one.send(*INSTANCES, as_=bob)).status_code == 401
    assert (await one.send("PUT", "/policy-svc/instance/x", {}, as_=alice)).status_code == 401
    assert await save(one, admin, {"id": saved["id"], "permission": VIEW}) == []
    assert (await one.send(*INSTANCES, as_=alice)).status_code == 401


async def test_an_admin_opens_prompts_to_users_where_they_are_closed(redis_url: str):
    async with ingress_app(redis_url, default_grants=[]) as replica:
        admin, alice = await replica.admin(), await replica.user("alice")
        body = {"prompt": "hi"}
        assert (await replica.send("POST", "/prompt-svc/prompt", body, as_=alice)).status_code == 401
        await save(replica, admin, {"permission": "prompt-svc:prompt:create", "roles": [Role.USER], "appHost": "*"})
        assert (await replica.send("POST", "/prompt-svc/prompt", body, as_=alice)).status_code == 200
        assert (await replica.send("POST", "/prompt-svc/prompts", as_=alice)).status_code == 401


async def test_permits_are_listed(replicas: list[IngressApp], admin: Account):
    one, two = replicas
    await save(
        one,
        admin,
        {
            "id": "a",
            "permissions": ["doc-svc:doc:read", "doc-svc:doc:edit"],
            "roles": ["doc-svc:reader"],
            "appHost": "*",
        },
        {"id": "b", "permission": VIEW, "slugs": ["alice", "bob"]},
        {"permission": "doc-svc:doc:read", "slugs": "bob", "appHost": "shop.example"},
    )

    async def listed(**body: str) -> list[dict[str, Any]]:
        answer = await two.send("POST", "/user-svc/permits", body, as_=admin)
        assert list(answer.json()) == ["permits"]
        permits: list[dict[str, Any]] = answer.json()["permits"]
        return permits

    everything = await listed()
    assert masked(everything[:2]) == masked(
        [
            {
                "id": "a",
                "appId": "*",
                "permissions": ["doc-svc:doc:read", "doc-svc:doc:edit"],
                "roles": ["doc-svc:reader"],
                "slugs": [],
                "createdAt": "2026-01-01T00:00:00.000000Z",
                "updatedAt": "2026-01-01T00:00:00.000000Z",
            },
            {
                "id": "b",
                "appId": APP,
                "permission": VIEW,
                "permissions": [VIEW],
                "roles": [],
                "slugs": ["alice", "bob"],
                "createdAt": "2026-01-01T00:00:00.000000Z",
                "updatedAt": "2026-01-01T00:00:00.000000Z",
            },
        ]
    )
    assert everything[2]["appId"] == app_id_of("shop.example")
    assert [permit["id"] for permit in await listed(permission=VIEW)] == ["b"]
    assert [permit["slugs"] for permit in await listed(slug="bob")] == [["alice", "bob"], ["bob"]]


async def test_saving_the_same_again_is_the_same_permit(replicas: list[IngressApp], admin: Account):
    permit = {"permission": VIEW, "slugs": ["alice"]}
    (first,) = await save(replicas[0], admin, permit)
    (again,) = await save(replicas[1], admin, permit)
    assert (again["id"], again["createdAt"]) == (first["id"], first["createdAt"])
    assert again["updatedAt"] > first["updatedAt"]
    await save(replicas[0], admin, {**permit, "slugs": ["bob"]})
    assert len((await replicas[0].send("POST", "/user-svc/permits", as_=admin)).json()["permits"]) == 2


async def test_a_permit_of_another_app_is_no_permit(replicas: list[IngressApp], admin: Account, alice: Account):
    await save(replicas[0], admin, {"permission": VIEW, "slugs": ["alice"], "appHost": "shop.example"})
    assert (await replicas[0].send(*INSTANCES, as_=alice)).status_code == 401


GOOD = {"permission": VIEW, "roles": ["r"]}
BAD: dict[str, tuple[Any, str]] = {
    "nothing": ({}, "permits: got nothing"),
    "no permits": ({"permits": []}, "permits: got an array"),
    "too many": ({"permits": [GOOD] * 101}, "permits: got an array"),
    "text": ({"permits": "all"}, "permits: got"),
    "no permission": ({"permits": [GOOD, {"roles": ["r"]}]}, "permits.1.permission: got nothing"),
    "a slip": ({"permits": [{**GOOD, "permission": "prompt-svc:prompt:creat"}]}, "prompt-svc:prompt:create"),
    "a pattern": ({"permits": [{**GOOD, "permission": "prompt-svc:*"}]}, "permits.0.permission: got 'prompt-svc:*'"),
    "no slug": ({"permits": [{**GOOD, "slugs": ["A B"]}]}, "permits.0.slugs: got 'A B'"),
    "an empty role": ({"permits": [{**GOOD, "roles": [""]}]}, "permits.0.roles"),
    "many roles": ({"permits": [{**GOOD, "roles": ["r"] * 101}]}, "permits.0.roles"),
    "a long id": ({"permits": [{**GOOD, "id": "x" * 129}]}, "permits.0.id"),
    "a wrong type": ({"permits": [{**GOOD, "roles": [{"a": 1}]}]}, "permits.0.roles"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_permit_is_named_and_none_of_its_request_is_kept(
    replicas: list[IngressApp], admin: Account, name: str
):
    body, mention = BAD[name]
    answer = await replicas[0].send("PUT", "/user-svc/permits", body, as_=admin)
    assert answer.status_code == 400, answer.text
    assert mention in answer.json()["error"]
    assert (await replicas[0].send("POST", "/user-svc/permits", as_=admin)).json() == {"permits": []}


async def test_there_are_only_so_many_permits(replicas: list[IngressApp], admin: Account):
    for start in range(0, MOST_PERMITS, 100):
        await save(replicas[0], admin, *({**GOOD, "id": str(start + i)} for i in range(100)))
    more = {"permits": [{**GOOD, "id": "0", "roles": ["changed"]}, {**GOOD, "id": "more"}]}
    assert (await replicas[0].send("PUT", "/user-svc/permits", more, as_=admin)).status_code == 409
    listed = (await replicas[0].send("POST", "/user-svc/permits", as_=admin)).json()["permits"]
    assert len(listed) == MOST_PERMITS
    assert listed[0]["roles"] == ["r"]


async def has(replica: IngressApp, account: Account, permission: str) -> dict[str, Any]:
    answer = await replica.send("POST", f"/user-svc/self/has/{permission}", as_=account)
    assert answer.status_code == 200, answer.text
    reply: dict[str, Any] = answer.json()
    return reply


async def test_what_a_caller_has(replicas: list[IngressApp], admin: Account, alice: Account):
    one, _ = replicas
    assert masked(await has(one, alice, "prompt-svc:prompt:create")) == masked(
        {
            "app": {"host": "unnamed", "id": APP},
            "appId": APP,
            "authorized": True,
            "until": "2026-01-01T00:00:00.000000Z",
            "user": {
                "id": "usr-0000000000000000000000",
                "createdAt": "2026-01-01T00:00:00.000000Z",
                "updatedAt": "2026-01-01T00:00:00.000000Z",
                "slug": "alice",
            },
        }
    )
    for permission in (VIEW, "doc-svc:doc:read", "nonsense", "a%2Fb", "x" * 1000):
        reply = await has(one, alice, permission)
        assert reply["authorized"] is False
        assert list(reply) == ["app", "appId", "authorized", "until", "user"]
    assert (await has(one, admin, VIEW))["authorized"] is True
    await save(one, admin, {"permission": "doc-svc:doc:read", "slugs": ["alice"]})
    by_permit = await has(one, alice, "doc-svc:doc:read")
    by_role = await has(one, alice, "prompt-svc:prompt:create")
    assert by_permit["authorized"] is True
    # A permit may be taken back long before the token expires.
    assert by_permit["until"] < by_role["until"]


async def test_a_changed_password(replicas: list[IngressApp], alice: Account):
    one, two = replicas

    async def change(current: Any, new: Any) -> tuple[int, dict[str, Any]]:
        body = {"currentPassword": current, "newPassword": new}
        answer = await one.send("POST", "/user-svc/change-password", body, as_=alice)
        return answer.status_code, answer.json()

    async def login(password: str) -> int:
        body = {"appHost": "unnamed", "slug": "alice", "password": password}
        return (await two.send("POST", "/user-svc/login", body)).status_code

    assert await change("wrong", "another password") == (401, {"error": "Invalid Password"})
    assert await change(None, "another password") == (400, {"error": "CurrentPassword missing"})
    assert await change(PASSWORD, "") == (400, {"error": "NewPassword missing"})
    assert await change(PASSWORD, "short") == (
        400,
        {"error": "password: got 5 characters, allowed is 8 to 1024 characters"},
    )
    assert await login(PASSWORD) == 200
    assert await change(PASSWORD, "another password") == (200, {})
    assert [await login(PASSWORD), await login("another password")] == [401, 200]
    # The token that asked for it is worthless, too.
    assert (await one.send("POST", "/user-svc/self", as_=alice)).status_code == 401


async def test_guessing_the_present_password_is_limited_like_logins(replicas: list[IngressApp], alice: Account):
    body = {"currentPassword": "wrong", "newPassword": "another password"}
    outcomes = [
        (await replicas[i % 2].send("POST", "/user-svc/change-password", body, as_=alice)).status_code
        for i in range(11)
    ]
    assert outcomes == [401] * 10 + [429]
