"""Tokens and API keys are the same on every door: a key opens them all, and a token that was revoked opens none."""

from typing import Any

import pytest

from pipeline.accounts import Account
from tests.integration.ingress_app import PASSWORD, IngressApp, ingress_app, token
from tests.integration.semoss_client import basic

#: Something that any user may ask of each door.
DOORS: dict[str, tuple[str, str, Any]] = {
    "prompt-svc": ("POST", "/prompt-svc/prompts", {}),
    "openai": ("GET", "/v1/models", None),
    "open-assistant": ("GET", "/auth/check", None),
    "semoss": ("GET", "/Monolith/api/config/fetchCsrf", None),
    # Refused for what is in it, which is looked at once it is known who asks.
    "llm-inference": ("POST", "/api/generate-one", {"nothing": 1}),
}
OPEN = {"llm-inference": 400}

CONFIG = ("GET", "/Monolith/api/config")
FETCH_CSRF = ("GET", "/Monolith/api/config/fetchCsrf")
STREAM = "/prompt-svc/prompts/t/responses/subscribe"


async def key_of(replica: IngressApp, account: Account) -> tuple[str, str]:
    """A new API key, and its id."""
    made = (await replica.send("POST", "/user-svc/api-key", {"name": "test"}, as_=account)).json()
    return made["key"], made["apiKey"]["id"]


async def revoke(replica: IngressApp, account: Account, key_id: str) -> None:
    assert (await replica.send("DELETE", "/user-svc/api-keys", {"id": key_id}, as_=account)).status_code == 200


async def session_by(replica: IngressApp, credentials: str) -> str:
    """The cookie of a new SEMOSS session."""
    begun = await replica.send(*CONFIG, as_=credentials)
    return str(begun.headers["set-cookie"].partition(";")[0])


@pytest.mark.parametrize("door", DOORS)
async def test_an_api_key_opens_every_door_until_it_is_revoked(replicas: list[IngressApp], alice: Account, door: str):
    one = replicas[0]
    key, key_id = await key_of(one, alice)
    bearer = f"Bearer {key}"
    answer = await one.send(*DOORS[door], as_=bearer)
    assert answer.status_code == OPEN.get(door, 200), answer.text
    await revoke(one, alice, key_id)
    assert (await one.send(*DOORS[door], as_=bearer)).status_code == 401


@pytest.mark.parametrize("door", DOORS)
async def test_a_revoked_token_opens_no_door(replicas: list[IngressApp], alice: Account, door: str):
    one = replicas[0]
    bearer = token(alice)
    assert (await one.send(*DOORS[door], as_=bearer)).status_code == OPEN.get(door, 200)
    assert (await one.send("DELETE", "/user-svc/tokens", {}, as_=alice)).status_code == 200
    assert (await one.send(*DOORS[door], as_=bearer)).status_code == 401


async def test_a_semoss_session_ends_with_the_token_that_began_it(replicas: list[IngressApp], alice: Account):
    one = replicas[0]
    cookie = await session_by(one, token(alice))
    assert (await one.send(*FETCH_CSRF, cookie=cookie)).status_code == 200
    assert (await one.send("DELETE", "/user-svc/tokens", {}, as_=alice)).status_code == 200
    assert (await one.send(*FETCH_CSRF, cookie=cookie)).status_code == 401


@pytest.mark.parametrize("scheme", ["bearer", "basic"])
async def test_a_semoss_session_ends_with_the_api_key_that_began_it(
    replicas: list[IngressApp], alice: Account, scheme: str
):
    one = replicas[0]
    (key, key_id), (other, _) = await key_of(one, alice), await key_of(one, alice)
    cookie = await session_by(one, f"Bearer {key}" if scheme == "bearer" else basic(alice.slug, key))
    beside = await session_by(one, f"Bearer {other}")
    assert (await one.send(*FETCH_CSRF, cookie=cookie)).status_code == 200
    await revoke(one, alice, key_id)
    assert (await one.send(*FETCH_CSRF, cookie=cookie)).status_code == 401
    pixel = await one.send("POST", "/Monolith/api/engine/runPixel", {"expression": "META | true"}, cookie=cookie)
    assert pixel.status_code == 401
    assert (await one.send(*CONFIG, cookie=cookie)).json()["logins"] == {}
    assert (await one.send(*FETCH_CSRF, cookie=beside)).status_code == 200


async def test_the_config_knows_a_session_no_longer_once_the_password_is_changed(redis_url: str):
    async with ingress_app(redis_url, semoss_csrf=True) as one:
        alice = await one.user("alice")
        cookie = await session_by(one, basic(alice.slug))
        before = (await one.send(*CONFIG, cookie=cookie)).json()
        assert (before["logins"], "X-CSRF-Token" in before) == ({"NATIVE": "alice"}, True)
        changed = {"currentPassword": PASSWORD, "newPassword": "another password"}
        assert (await one.send("POST", "/user-svc/change-password", changed, as_=alice)).status_code == 200
        after = await one.send(*CONFIG, cookie=cookie)
        assert (after.status_code, after.json()["logins"], "X-CSRF-Token" in after.json()) == (200, {}, False)
        # Logging in again beside the old cookie begins a new session.
        again = await one.send(*CONFIG, as_=basic(alice.slug, "another password"), cookie=cookie)
        assert again.json()["logins"] == {"NATIVE": "alice"}
        assert "set-cookie" in again.headers


async def test_a_stream_ticket_ends_with_the_api_key_that_made_it(replicas: list[IngressApp], alice: Account):
    one = replicas[0]
    (key, key_id), (other, _) = await key_of(one, alice), await key_of(one, alice)
    used, unused, beside = [
        (await one.send("POST", "/user-svc/stream-ticket", {}, as_=f"Bearer {bearer}")).json()["ticket"]
        for bearer in (key, key, other)
    ]
    assert await one.opens(f"{STREAM}?ticket={used}") == 200
    assert await one.opens(f"{STREAM}?ticket={used}", last_event_id="1-1") == 200
    await revoke(one, alice, key_id)
    assert await one.opens(f"{STREAM}?ticket={used}", last_event_id="1-1") == 401
    assert await one.opens(f"{STREAM}?ticket={unused}") == 401
    assert await one.opens(f"{STREAM}?ticket={beside}") == 200


async def test_a_key_has_the_roles_that_its_holder_was_enrolled_with(
    replicas: list[IngressApp], admin: Account, alice: Account
):
    one = replicas[0]
    made = (await one.send("POST", "/user-svc/api-key", {"name": "test"}, as_=alice)).json()
    bearer = f"Bearer {made['key']}"
    enroll = {"userId": alice.id, "role": "user-svc:admin"}
    assert (await one.send("POST", "/user-svc/users", {}, as_=bearer)).status_code == 401
    assert (await one.send("PUT", "/user-svc/enrolls", {"enrolls": [enroll]}, as_=admin)).status_code == 200
    two = replicas[1]
    assert (await two.send("POST", "/user-svc/users", {}, as_=bearer)).status_code == 200
