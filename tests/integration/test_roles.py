"""Roles given and taken by admins, and what becomes of tokens, on two replicas of the service."""

from __future__ import annotations

import json
import re
from typing import Any

import jwt
import pytest

from deployments.ingress.tokens import app_id_of
from pipeline.accounts import Account, Role
from pipeline.roles import MOST_ENROLLS
from tests.integration.ingress_app import PASSWORD, TOKENS, IngressApp, token
from tests.waiting import until_true

VIEW = "policy-svc:instance:view"
APP = app_id_of("unnamed")
INSTANCES = ("POST", "/policy-svc/instances")
EDITOR = "news-svc:editor"


async def enroll(replica: IngressApp, by: Account | str, *enrolls: dict[str, Any]) -> list[dict[str, Any]]:
    answer = await replica.send("PUT", "/user-svc/enrolls", {"enrolls": list(enrolls)}, as_=by)
    assert answer.status_code == 200, answer.text
    made: list[dict[str, Any]] = answer.json()["enrolls"]
    return made


async def listed(replica: IngressApp, by: Account | str, **which: Any) -> list[dict[str, Any]]:
    answer = await replica.send("POST", "/user-svc/enrolls", which, as_=by)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["enrolls"]
    return found


async def drop(replica: IngressApp, by: Account | str, *ids: str) -> int:
    return (await replica.send("DELETE", "/user-svc/enrolls", {"ids": list(ids)}, as_=by)).status_code


async def login(replica: IngressApp, slug: str, host: str = "unnamed") -> str:
    body = {"appHost": host, "slug": slug, "password": PASSWORD}
    answer = await replica.send("POST", "/user-svc/login", body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["token"]["token"])


def roles_in(encoded: str) -> list[str]:
    claims = jwt.decode(encoded, TOKENS.public_pem, algorithms=["RS256"])
    roles: list[str] = claims["1ro"]
    return roles


#: Nothing but the gate looks at the caller.
MODELS = ("POST", "/model-svc/models")


async def status(replica: IngressApp, caller: Account | str, method: str = MODELS[0], path: str = MODELS[1]) -> int:
    return (await replica.send(method, path, as_=caller)).status_code


async def is_refused(replica: IngressApp, caller: Account | str) -> bool:
    return await status(replica, caller) == 401


async def test_the_enroll_on_the_wire(replicas: list[IngressApp], admin: Account, alice: Account):
    (made,) = await enroll(replicas[0], admin, {"role": EDITOR, "userId": alice.id})
    assert re.fullmatch(r"enr-[0-9a-f]{32}", made["id"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", made["createdAt"])
    assert made == {
        "id": made["id"],
        "appId": APP,
        "role": EDITOR,
        "userId": alice.id,
        "createdBy": admin.id,
        "createdAt": made["createdAt"],
        "updatedAt": made["createdAt"],
    }
    (again,) = await enroll(replicas[1], admin, {"role": EDITOR, "userId": alice.id})
    assert again == {**made, "updatedAt": again["updatedAt"]}
    assert again["updatedAt"] > made["updatedAt"]
    assert await listed(replicas[1], admin, userId=alice.id) == [again]


async def test_the_command_line_sends_lists_as_their_text(replicas: list[IngressApp], admin: Account, alice: Account):
    text = json.dumps([{"role": EDITOR, "userId": alice.id}, {"role": "news-svc:reader", "userId": alice.id}])
    answer = await replicas[0].send("PUT", "/user-svc/enrolls", {"enrolls": text}, as_=admin)
    one, two = [made["id"] for made in answer.json()["enrolls"]]
    for ids in (json.dumps([one]), two):
        assert (await replicas[0].send("DELETE", "/user-svc/enrolls", {"ids": ids}, as_=admin)).status_code == 200
    assert await listed(replicas[0], admin, userId=alice.id) == []


async def test_a_role_and_its_permit_open_a_route_with_the_next_token(
    replicas: list[IngressApp], admin: Account, alice: Account
):
    one, two = replicas
    permits = {"permits": [{"permission": VIEW, "roles": [EDITOR]}]}
    assert (await one.send("PUT", "/user-svc/permits", permits, as_=admin)).status_code == 200
    before = await login(one, "alice")
    await enroll(one, admin, {"role": EDITOR, "userId": alice.id})
    # A token has the roles that its user had when it was issued; it stays good.
    assert await status(one, before, *INSTANCES) == 401
    assert (await one.send("POST", "/user-svc/self", as_=before)).json()["roles"] == [Role.USER]
    renewed = (await two.send("POST", "/user-svc/refresh-token", as_=before)).json()["token"]["token"]
    for encoded in (renewed, await login(two, "alice")):
        assert roles_in(encoded) == [Role.USER, EDITOR]
        assert (await two.send("POST", "/user-svc/self", as_=encoded)).json()["roles"] == [Role.USER, EDITOR]
        await until_true(lambda encoded=encoded: opens(two, encoded), what="the permit in force")  # type: ignore[misc]


async def opens(replica: IngressApp, encoded: str) -> bool:
    return await status(replica, encoded, *INSTANCES) == 200


async def test_who_becomes_an_admin_is_one_and_is_none_when_it_is_taken_back(
    replicas: list[IngressApp], admin: Account, alice: Account
):
    one, two = replicas
    (made,) = await enroll(one, admin, {"role": Role.ADMIN, "userId": alice.id})
    as_admin = await login(two, "alice")
    assert [await status(one, as_admin, *INSTANCES), await status(two, as_admin, *INSTANCES)] == [200, 200]
    assert await drop(one, admin, made["id"]) == 200
    # Where it was done at once, elsewhere as soon as what is remembered of the account is too old.
    assert await is_refused(one, as_admin)
    await until_true(lambda: is_refused(two, as_admin), what="the other replica's refusal")
    assert roles_in(await login(two, "alice")) == [Role.USER]


async def test_a_revoked_token_gets_no_better_one_where_it_is_still_remembered_as_good(
    replicas: list[IngressApp], admin: Account, alice: Account
):
    one, two = replicas
    (made,) = await enroll(one, admin, {"role": Role.ADMIN, "userId": alice.id})
    as_admin = await login(two, "alice")
    assert await status(two, as_admin) == 200
    assert await drop(one, admin, made["id"]) == 200
    for path in ("/user-svc/refresh-token", "/user-svc/self", "/user-svc/self/has/prompt-svc:prompt:view"):
        assert (await two.send("POST", path, as_=as_admin)).status_code == 401


async def test_a_role_that_another_enroll_still_gives_is_not_lost(
    replicas: list[IngressApp], admin: Account, alice: Account
):
    one = replicas[0]
    await enroll(
        one,
        admin,
        {"id": "a", "role": EDITOR, "userId": alice.id},
        {"id": "b", "role": EDITOR, "userId": alice.id},
        {"id": "c", "role": "news-svc:reader", "userId": alice.id},
    )
    encoded = await login(one, "alice")
    assert await drop(one, admin, "a") == 200
    assert await status(one, encoded) == 200
    assert await drop(one, admin, "b", "b") == 200
    assert await status(one, encoded) == 401
    assert roles_in(await login(one, "alice")) == [Role.USER, "news-svc:reader"]


async def test_a_role_is_good_in_its_app(replicas: list[IngressApp], admin: Account, alice: Account):
    one = replicas[0]
    await enroll(
        one,
        admin,
        {"role": "shop-svc:clerk", "userId": alice.id, "appHost": "shop.example"},
        {"role": "any-svc:guest", "userId": alice.id, "appHost": "*"},
    )
    assert roles_in(await login(one, "alice")) == [Role.USER, "any-svc:guest"]
    assert roles_in(await login(one, "alice", host="shop.example")) == [Role.USER, "any-svc:guest", "shop-svc:clerk"]
    apps = {made["role"]: made["appId"] for made in await listed(one, admin, userId=alice.id)}
    assert apps == {"shop-svc:clerk": app_id_of("shop.example"), "any-svc:guest": "*"}


async def test_lists_by_role_and_user_in_pages(replicas: list[IngressApp], admin: Account):
    one = replicas[0]
    users = [await one.user(f"user-{number}") for number in range(5)]
    await enroll(one, admin, *({"role": EDITOR, "userId": user.id} for user in users))
    await enroll(one, admin, {"role": "news-svc:reader", "userId": users[0].id})
    everybody = await listed(one, admin, role=EDITOR)
    assert {made["userId"] for made in everybody} == {user.id for user in users}
    page = await listed(one, admin, role=EDITOR, limit=3)
    assert page + await listed(one, admin, role=EDITOR, limit=3, after=page[-1]["id"]) == everybody
    assert len(await listed(one, admin, userId=users[0].id)) == 2
    (only,) = await listed(one, admin, userId=users[0].id, role=EDITOR)
    assert only["role"] == EDITOR
    for nobody in ({"role": "news-svc:nobody"}, {"userId": "usr-none"}, {"contactId": "a@example.com"}):
        assert await listed(one, admin, **nobody) == []


GOOD = {"role": EDITOR, "userId": "ALICE"}
BAD: dict[str, tuple[Any, int, str]] = {
    "nothing": ({}, 400, "enrolls: got nothing"),
    "no enrolls": ({"enrolls": []}, 400, "enrolls: got an array"),
    "too many": ({"enrolls": [GOOD] * 101}, 400, "enrolls: got an array"),
    "text": ({"enrolls": "all"}, 400, "enrolls: got"),
    "no role": ({"enrolls": [{"userId": "ALICE"}]}, 400, "enrolls.0.role: got nothing"),
    "no user": ({"enrolls": [GOOD, {"role": EDITOR}]}, 400, "enrolls.1.userId: got nothing"),
    "an unknown user": ({"enrolls": [GOOD, {**GOOD, "userId": "usr-1"}]}, 404, "enrolls.1.userId: there is no such"),
    "a role without an owner": ({"enrolls": [{**GOOD, "role": "editor"}]}, 400, "enrolls.0.role: got 'editor'"),
    "a pattern": ({"enrolls": [{**GOOD, "role": "news-svc:*"}]}, 400, "enrolls.0.role: got 'news-svc:*'"),
    "everybody's role": ({"enrolls": [{**GOOD, "role": Role.USER}]}, 400, "every user has this one"),
    "a long role": ({"enrolls": [{**GOOD, "role": "a:" + "x" * 127}]}, 400, "enrolls.0.role: got 129 characters"),
    "a contact": ({"enrolls": [{**GOOD, "contactId": "a@b.c"}]}, 400, "enrolls.0.contactId"),
    "a long id": ({"enrolls": [{**GOOD, "id": "x" * 129}]}, 400, "enrolls.0.id: got 129 characters"),
    "a wrong type": ({"enrolls": [{**GOOD, "role": {"a": 1}}]}, 400, "enrolls.0.role"),
    "one id twice": (
        {"enrolls": [{**GOOD, "id": "a"}, {**GOOD, "id": "a", "role": "news-svc:reader"}]},
        409,
        "enrolls.1.id: another enroll has it",
    ),
    "an id in use": ({"enrolls": [{**GOOD, "id": "taken"}]}, 409, "enrolls.0.id: another enroll has it"),
    "more than fit a token": (
        {"enrolls": [{**GOOD, "role": f"news-svc:r{number}"} for number in range(MOST_ENROLLS + 1)]},
        409,
        f"the user has {MOST_ENROLLS} already",
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_enroll_is_named_and_none_of_its_request_is_kept(
    replicas: list[IngressApp], admin: Account, alice: Account, name: str
):
    await enroll(replicas[0], admin, {"id": "taken", "role": EDITOR, "userId": admin.id})
    body, code, mention = BAD[name]
    for item in body.get("enrolls", ()) if isinstance(body.get("enrolls"), list) else ():
        if item.get("userId") == "ALICE":
            body = {
                "enrolls": [{**e, "userId": alice.id} if e.get("userId") == "ALICE" else e for e in body["enrolls"]]
            }
    answer = await replicas[0].send("PUT", "/user-svc/enrolls", body, as_=admin)
    assert (answer.status_code, mention in answer.json()["error"]) == (code, True), answer.text
    assert await listed(replicas[0], admin, userId=alice.id) == []
    assert roles_in(await login(replicas[0], "alice")) == [Role.USER]


@pytest.mark.parametrize(
    ("body", "mention"),
    [
        ({}, "role: got nothing"),
        ({"role": "x" * 129}, "role: got 129 characters"),
        ({"userId": ["a"]}, "userId: got an array"),
        ({"role": EDITOR, "limit": 1001}, "limit: got 1001, allowed is an integer from 1 to 1000"),
    ],
)
async def test_a_bad_question_is_named(replicas: list[IngressApp], admin: Account, body: Any, mention: str):
    answer = await replicas[0].send("POST", "/user-svc/enrolls", body, as_=admin)
    assert (answer.status_code, mention in answer.json()["error"]) == (400, True), answer.text


async def test_an_unknown_enroll_is_404_and_the_others_stay(replicas: list[IngressApp], admin: Account, alice: Account):
    one = replicas[0]
    (made,) = await enroll(one, admin, {"role": EDITOR, "userId": alice.id})
    assert await drop(one, admin, made["id"], "enr-none") == 404
    assert len(await listed(one, admin, userId=alice.id)) == 1
    for ids in ([], [""], ["x"] * 101):
        assert await drop(one, admin, *ids) == 400
    assert await drop(one, admin, made["id"]) == 200
    assert await drop(one, admin, made["id"]) == 404


async def test_who_may_enroll_gives_and_takes_own_roles_only(
    replicas: list[IngressApp], admin: Account, alice: Account
):
    one = replicas[0]
    bob = await one.user("bob")
    permits = [
        {"permission": permission, "slugs": ["alice"]}
        for permission in ("user-svc:enroll:edit", "user-svc:enroll:view")
    ]
    assert (await one.send("PUT", "/user-svc/permits", {"permits": permits}, as_=admin)).status_code == 200
    await enroll(one, admin, {"role": "news-svc:admin", "userId": alice.id}, {"role": "other:x", "userId": bob.id})
    caller = await login(one, "alice")
    made = await enroll(
        one, caller, {"role": "alice:friend", "userId": bob.id}, {"role": "news-svc:reader", "userId": bob.id}
    )
    for role in (Role.ADMIN, "user-svc:org:x:admin", "other:x", "alicex:friend", "news-svcx:reader"):
        answer = await one.send("PUT", "/user-svc/enrolls", {"enrolls": [{"role": role, "userId": bob.id}]}, as_=caller)
        assert answer.status_code == 401, role
    # Of other roles they see nothing, and cannot tell theirs from unknown ones.
    assert {e["role"] for e in await listed(one, caller, userId=bob.id)} == {"alice:friend", "news-svc:reader"}
    assert await listed(one, caller, role="other:x") == []
    (foreign,) = await listed(one, admin, role="other:x")
    assert await drop(one, caller, foreign["id"]) == await drop(one, caller, "enr-none") == 404
    assert await drop(one, caller, *(e["id"] for e in made)) == 200
    assert len(await listed(one, admin, role="other:x")) == 1


async def test_a_changed_password_ends_every_token_of_its_user_alone(
    replicas: list[IngressApp], admin: Account, alice: Account
):
    one, two = replicas
    tokens = [await login(one, "alice"), await login(two, "alice"), token(alice)]
    ticket = (await two.send("POST", "/user-svc/stream-ticket", as_=tokens[0])).json()["ticket"]
    assert [await status(replica, encoded) for encoded in tokens for replica in replicas] == [200] * 6
    change = {"currentPassword": PASSWORD, "newPassword": "another password"}
    assert (await one.send("POST", "/user-svc/change-password", change, as_=tokens[0])).status_code == 200
    for encoded in tokens:
        assert await is_refused(one, encoded)
        await until_true(lambda encoded=encoded: is_refused(two, encoded), what="the refusal")  # type: ignore[misc]
    # A ticket is worth what the token is that it was made with.
    assert await two.opens(f"/firehose-svc/events/subscribe?ticket={ticket}") == 401
    assert await status(one, admin) == 200
    body = {"appHost": "unnamed", "slug": "alice", "password": "another password"}
    fresh = (await two.send("POST", "/user-svc/login", body)).json()["token"]["token"]
    assert [await status(replica, fresh) for replica in replicas] == [200, 200]
