"""API keys: made, shown once, listed, revoked; accepted wherever an access token is, and never stored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from deployments.ingress import api_keys as module
from deployments.ingress.api_keys import ApiKeys
from pipeline.accounts import Account, Role
from pipeline.api_keys import MOST_KEYS
from pipeline.errors import Unauthorized
from pipeline.store.account_keys import AccountKeys
from pipeline.store.accounts import RedisAccounts
from pipeline.store.api_keys import USED_EVERY_S, ApiKeyStore
from pipeline.store.keys import Keys
from tests.integration.ingress_app import IngressApp, ingress_app


@pytest.fixture
async def app(redis_url: str) -> AsyncIterator[IngressApp]:
    async with ingress_app(redis_url) as app:
        yield app


@pytest.fixture
async def owner(app: IngressApp) -> Account:
    return await app.user("owner")


async def make(app: IngressApp, owner: Account, body: Any = None) -> tuple[dict[str, Any], str]:
    answer = await app.send("POST", "/user-svc/api-key", body or {}, as_=owner)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()["apiKey"], answer.json()["key"]


async def listed(app: IngressApp, owner: Account) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await app.send("POST", "/user-svc/api-keys", {}, as_=owner)).json()["apiKeys"]
    return found


async def revoke(app: IngressApp, owner: Account, body: Any) -> int:
    return (await app.send("DELETE", "/user-svc/api-keys", body, as_=owner)).status_code


async def status(app: IngressApp, key: str, path: str = "/v1/models", method: str = "GET") -> int:
    return (await app.send(method, path, as_=f"Bearer {key}")).status_code


async def test_a_key_opens_every_door_as_its_owner(app: IngressApp, owner: Account):
    made, key = await make(app, owner, {"name": "laptop"})
    assert made.keys() == {"id", "userId", "appId", "prefix", "createdAt", "updatedAt", "name"}
    assert (made["userId"], made["name"], made["prefix"]) == (owner.id, "laptop", key[:8])
    assert await status(app, key) == 200
    assert await status(app, key, "/prompt-svc/prompts", "POST") == 200
    # The published clients send the naked key, too.
    assert (await app.send("POST", "/user-svc/self", {}, as_=key)).json()["user"]["id"] == owner.id
    submitted = await app.send("POST", "/prompt-svc/prompt", {"prompt": "hi", "id": "mine"}, as_=f"Bearer {key}")
    assert submitted.json()["prompt"]["userId"] == owner.id
    assert await status(app, key, "/policy-svc/instances", "POST") == 401, "no more than its owner may"


async def test_the_key_itself_is_nowhere_in_the_store(app: IngressApp, owner: Account, redis_url: str):
    _, key = await make(app, owner)
    await status(app, key)
    client = Redis.from_url(redis_url)
    names = [name async for name in client.scan_iter()]
    texts = [repr(await client.dump(name)) + repr(name) for name in names]
    await client.aclose()
    assert names
    assert not any(key in text or key.removeprefix("sk-") in text for text in texts)


async def test_a_revoked_key_opens_nothing_at_once(app: IngressApp, owner: Account):
    made, key = await make(app, owner)
    _, other = await make(app, owner)
    assert await status(app, key) == 200
    assert await revoke(app, owner, {"id": made["id"]}) == 200
    assert await status(app, key) == 401
    assert await status(app, other) == 200
    assert [row["prefix"] for row in await listed(app, owner)] == [other[:8]]
    assert await revoke(app, owner, {"id": made["id"]}) == 404


async def test_another_replica_learns_of_it_within_seconds(app: IngressApp, owner: Account, redis_url: str):
    made, key = await make(app, owner)
    client = Redis.from_url(redis_url)
    now = [100.0]
    accounts: Any = RedisAccounts(client, AccountKeys("ps"))
    replica = ApiKeys(ApiKeyStore(client, Keys("ps")), accounts, monotonic=lambda: now[0])
    holder = await replica.holder(key)
    assert holder.user_id == owner.id
    await replica.check(holder)
    await revoke(app, owner, {"ids": [made["id"]]})
    assert await replica.holder(key) == holder
    await replica.check(holder)
    now[0] += module.MAX_AGE_S
    with pytest.raises(Unauthorized):
        await replica.holder(key)
    with pytest.raises(Unauthorized):
        await replica.check(holder)
    await client.aclose()


async def test_a_key_has_the_roles_its_account_has_now(app: IngressApp, owner: Account, redis_url: str):
    _, key = await make(app, owner)
    client = Redis.from_url(redis_url)
    await client.hset(AccountKeys("ps").user(owner.id), "roles", f'["{Role.ADMIN}"]')  # type: ignore[misc]
    assert await status(app, key, "/policy-svc/instances", "POST") == 200
    await client.aclose()


async def test_a_listing_says_when_a_key_was_last_used(app: IngressApp, owner: Account):
    _, first = await make(app, owner)
    _, second = await make(app, owner, {"name": "second"})
    await status(app, first)
    newest, oldest = await listed(app, owner)
    assert (newest["prefix"], oldest["prefix"]) == (second[:8], first[:8])
    assert "lastUsedAt" not in newest
    assert oldest["lastUsedAt"] >= oldest["createdAt"]
    assert USED_EVERY_S > 0
    assert first not in str(await listed(app, owner))


async def test_a_key_makes_no_other_secrets(app: IngressApp, owner: Account):
    made, key = await make(app, owner)
    for method, path, body in (
        ("POST", "/user-svc/api-key", {}),
        ("POST", "/user-svc/api-keys", {}),
        ("DELETE", "/user-svc/api-keys", {"id": made["id"]}),
        ("POST", "/user-svc/refresh-token", {}),
    ):
        answer = await app.send(method, path, body, as_=f"Bearer {key}")
        assert (answer.status_code, answer.json()) == (401, {"error": "Unauthorized"})
    assert await status(app, key) == 200


async def test_a_user_has_so_many_and_no_more(app: IngressApp, owner: Account):
    for _ in range(MOST_KEYS):
        await make(app, owner)
    answer = await app.send("POST", "/user-svc/api-key", {}, as_=owner)
    assert answer.status_code == 409
    assert len(await listed(app, owner)) == MOST_KEYS
    other = await app.user("other")
    assert await listed(app, other) == []
    await make(app, other)


@pytest.mark.parametrize("key", ["sk-", "sk-" + "0" * 22, "sk-" + "0" * 23, "sk-" + "!" * 22, "key-" + "0" * 22])
async def test_what_is_no_key_opens_nothing(app: IngressApp, key: str):
    assert await status(app, key) == 401
    assert await status(app, key, "/prompt-svc/prompts", "POST") == 401


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/user-svc/api-key", {"name": "x" * 129}),
        ("POST", "/user-svc/api-key", {"name": "a\nb"}),
        ("POST", "/user-svc/api-key", {"name": ["a"]}),
        ("DELETE", "/user-svc/api-keys", {"id": ["a"]}),
        ("DELETE", "/user-svc/api-keys", {"ids": ["x"] * 101}),
    ],
)
async def test_wrong_requests_are_refused(app: IngressApp, owner: Account, method: str, path: str, body: Any):
    answer = await app.send(method, path, body, as_=owner)
    assert answer.status_code == 400, answer.text
