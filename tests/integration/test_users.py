"""The list of users, and tokens made worthless, on a real store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from pipeline.accounts import Account, Role
from pipeline.store.account_keys import AccountKeys
from tests.integration.ingress_app import PASSWORD, IngressApp, ingress_app
from tests.waiting import until_true


@pytest.fixture
async def replica(redis_url: str) -> AsyncIterator[IngressApp]:
    async with ingress_app(redis_url) as replica:
        yield replica


@pytest.fixture
async def admin(replica: IngressApp) -> Account:
    return await replica.admin()


async def listed(replica: IngressApp, admin: Account, **which: Any) -> dict[str, Any]:
    answer = await replica.send("POST", "/user-svc/users", which, as_=admin)
    assert answer.status_code == 200, answer.text
    reply: dict[str, Any] = answer.json()
    return reply


def slugs(reply: dict[str, Any]) -> list[str]:
    return [user["slug"] for user in reply["users"]]


async def test_a_user_in_the_list_has_roles_and_no_password(replica: IngressApp, admin: Account):
    account = await replica.accounts.register(slug="ann", password=PASSWORD, name="Ann")
    answer = await replica.send("POST", "/user-svc/users", {"search": "ann", "count": True}, as_=admin)
    (record,) = answer.json()["users"]
    assert record == {
        "id": account.id,
        "slug": "ann",
        "name": "Ann",
        "roles": [Role.USER],
        "createdAt": record["createdAt"],
        "updatedAt": record["updatedAt"],
    }
    assert answer.json()["count"] == 1
    for secret in ("argon2", account.password_hash, PASSWORD):
        assert secret not in answer.text


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_have_everybody_once_also_those_of_one_moment(replica: IngressApp, admin: Account, order: str):
    for number in range(7):
        draft = await replica.accounts.draft(slug=f"u-{number}", password=PASSWORD, name="", roles=(Role.USER,))
        # Five of them registered in the same microsecond, as far as the replicas' clocks can tell.
        created = admin.created_at + (10 if number < 5 else 20)
        assert await replica.accounts.store.create(
            Account(
                id=draft.id,
                slug=draft.slug,
                password_hash=draft.password_hash,
                created_at=created,
                updated_at=created,
            )
        )
    seen: list[str] = []
    after: dict[str, Any] = {}
    for _ in range(10):
        page = await listed(replica, admin, limit=3, order=order, orderBy="createdAt", count=True, **after)
        assert page["count"] == 8
        seen += slugs(page)
        if "after" not in page:
            break
        assert len(page["users"]) == 3
        after = {"afterTime": page["after"]}
    assert sorted(seen) == sorted(["boss", *(f"u-{number}" for number in range(7))])
    expected_first = "boss" if order == "asc" else "u-6"
    assert seen[0] == expected_first


async def test_the_newest_come_first_unless_asked_otherwise(replica: IngressApp, admin: Account):
    await replica.user("later")
    assert slugs(await listed(replica, admin)) == ["later", "boss"]
    assert slugs(await listed(replica, admin, order="asc")) == ["boss", "later"]


async def test_some_are_found_by_id_and_slug(replica: IngressApp, admin: Account):
    ann, bob = await replica.user("ann"), await replica.user("bob")
    assert slugs(await listed(replica, admin, ids=[bob.id, ann.id, bob.id, "usr-none"])) == ["bob", "ann"]
    assert slugs(await listed(replica, admin, search=ann.id)) == ["ann"]
    assert slugs(await listed(replica, admin, search="bob", ids=[ann.id])) == []
    for nobody in ({"search": "an"}, {"search": "no*body"}, {"contactId": "a@b.c"}, {"contactIds": ["a"]}, {"ids": []}):
        assert (await listed(replica, admin, count=True, **nobody)) == {"users": [], "count": 0}


async def test_the_roles_shown_are_the_enrolled_ones_too(replica: IngressApp, admin: Account):
    ann = await replica.user("ann")
    body = {"enrolls": [{"role": "news-svc:editor", "userId": ann.id}]}
    assert (await replica.send("PUT", "/user-svc/enrolls", body, as_=admin)).status_code == 200
    (user,) = (await listed(replica, admin, search="ann"))["users"]
    assert user["roles"] == [Role.USER, "news-svc:editor"]


async def test_an_account_from_before_the_list_is_in_it_after_its_next_login(
    replica: IngressApp, admin: Account, redis_url: str
):
    await replica.user("old")
    async with Redis.from_url(redis_url) as client:
        await client.delete(AccountKeys("ps").everybody())
    assert slugs(await listed(replica, admin)) == []
    body = {"appHost": "unnamed", "slug": "old", "password": PASSWORD}
    assert (await replica.send("POST", "/user-svc/login", body)).status_code == 200
    assert slugs(await listed(replica, admin)) == ["old"]


@pytest.mark.parametrize(
    ("body", "mention"),
    [
        ({"limit": 101}, "limit: got 101, allowed is an integer from 1 to 100"),
        ({"limit": "many"}, 'limit: got "many"'),
        ({"order": "up"}, 'order: got "up", allowed is asc or desc'),
        ({"orderBy": "updatedAt"}, 'orderBy: got "updatedAt", allowed is createdAt'),
        ({"afterTime": "yesterday"}, "afterTime: got another text"),
        ({"ids": ["x"] * 101}, "ids: got 101 strings"),
        ({"ids": ["a\n"]}, "ids: got 1 strings"),
        ({"count": "perhaps"}, "count: got"),
    ],
)
async def test_a_bad_question_is_named(replica: IngressApp, admin: Account, body: Any, mention: str):
    answer = await replica.send("POST", "/user-svc/users", body, as_=admin)
    assert (answer.status_code, mention in answer.json()["error"]) == (400, True), answer.text


async def revoke(replica: IngressApp, caller: Account | str, **body: Any) -> int:
    return (await replica.send("DELETE", "/user-svc/tokens", body, as_=caller)).status_code


async def works(replica: IngressApp, account: Account) -> bool:
    """Whether the account's first tokens are good."""
    return (await replica.send("POST", "/user-svc/self", as_=account)).status_code == 200


async def test_ones_own_tokens_are_worthless_when_one_says_so(redis_url: str, replica: IngressApp):
    ann, bob = await replica.user("ann"), await replica.user("bob")
    async with ingress_app(redis_url) as other:
        assert await works(other, ann)
        assert await revoke(replica, ann) == 200
        assert not await works(replica, ann)

        async def is_refused() -> bool:
            return not await works(other, ann)

        await until_true(is_refused, what="the other replica's refusal")
        assert await works(other, bob)


async def test_somebody_elses_tokens_take_the_permission(replica: IngressApp, admin: Account):
    ann, bob = await replica.user("ann"), await replica.user("bob")
    assert await revoke(replica, bob, userId=ann.id) == await revoke(replica, bob, userId="usr-none") == 401
    assert await works(replica, ann)
    assert await revoke(replica, admin, userId=ann.id, allTokens=True) == 200
    assert not await works(replica, ann)
    assert await works(replica, admin)
    for unknown in ("usr-none", "a\n"):
        assert await revoke(replica, admin, userId=unknown) == 404
    assert await revoke(replica, admin, userId=ann.id, device="cli") == 400
    assert await revoke(replica, admin, userId=["x"]) == 400


async def reset(replica: IngressApp, caller: Account, user_id: str, **body: Any) -> tuple[int, Any]:
    answer = await replica.send("POST", f"/user-svc/{user_id}/reset-password", body, as_=caller)
    return answer.status_code, answer.json()


async def test_an_admin_resets_a_lost_password(replica: IngressApp, admin: Account):
    ann = await replica.user("ann")
    assert await works(replica, ann)
    assert await reset(replica, admin, ann.id, newPassword="another password") == (200, {})
    assert not await works(replica, ann)
    for password, status in ((PASSWORD, 401), ("another password", 200)):
        body = {"appHost": "unnamed", "slug": "ann", "password": password}
        assert (await replica.send("POST", "/user-svc/login", body)).status_code == status


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({}, "NewPassword missing"),
        ({"newPassword": "short"}, "password: got 5 characters, allowed is 8 to 1024 characters"),
        ({"newPassword": ["canary"]}, "newPassword: got an array, allowed is a string"),
    ],
)
async def test_a_password_that_cannot_be_is_refused(replica: IngressApp, admin: Account, body: Any, error: str):
    ann = await replica.user("ann")
    assert await reset(replica, admin, ann.id, **body) == (400, {"error": error})
    assert await works(replica, ann)


async def test_who_may_reset_passwords_cannot_become_an_admin_by_it(replica: IngressApp, admin: Account):
    ann, bob, cyd = [await replica.user(slug) for slug in ("ann", "bob", "cyd")]
    assert (await reset(replica, ann, bob.id, newPassword="another password"))[0] == 401
    permits = {"permits": [{"permission": "user-svc:user:edit", "slugs": ["ann"]}]}
    assert (await replica.send("PUT", "/user-svc/permits", permits, as_=admin)).status_code == 200
    enroll = {"enrolls": [{"role": Role.ADMIN, "userId": cyd.id, "appHost": "elsewhere.example"}]}
    assert (await replica.send("PUT", "/user-svc/enrolls", enroll, as_=admin)).status_code == 200
    for user, status in ((bob, 200), (admin, 401), (cyd, 401)):
        assert (await reset(replica, ann, user.id, newPassword="another password"))[0] == status
    assert (await reset(replica, ann, "usr-none", newPassword="another password"))[0] == 404
    assert (await reset(replica, admin, cyd.id, newPassword="another password"))[0] == 200
