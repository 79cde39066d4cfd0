"""Tokens and API keys are the same on every door: a key opens them all, and a token that was revoked opens none."""

from typing import Any

import pytest

from pipeline.accounts import Account
from tests.integration.ingress_app import IngressApp, token

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


@pytest.mark.parametrize("door", DOORS)
async def test_an_api_key_opens_every_door_until_it_is_revoked(replicas: list[IngressApp], alice: Account, door: str):
    one = replicas[0]
    made = (await one.send("POST", "/user-svc/api-key", {"name": "test"}, as_=alice)).json()
    bearer = f"Bearer {made['key']}"
    answer = await one.send(*DOORS[door], as_=bearer)
    assert answer.status_code == OPEN.get(door, 200), answer.text
    key_id = made["apiKey"]["id"]
    assert (await one.send("DELETE", "/user-svc/api-keys", {"id": key_id}, as_=alice)).status_code == 200
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
    begun = await one.send("GET", "/Monolith/api/config", as_=alice)
    cookie = begun.headers["set-cookie"].partition(";")[0]
    fetch = ("GET", "/Monolith/api/config/fetchCsrf")
    assert (await one.send(*fetch, cookie=cookie)).status_code == 200
    assert (await one.send("DELETE", "/user-svc/tokens", {}, as_=alice)).status_code == 200
    assert (await one.send(*fetch, cookie=cookie)).status_code == 401


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
