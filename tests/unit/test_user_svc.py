"""Snapshots of every message of user-svc."""

import json
import re
from dataclasses import replace
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from deployments.ingress.auth import Gate, unguarded
from deployments.ingress.bearers import Bearers
from deployments.ingress.tokens import Tokens, app_id_of
from deployments.ingress.user_svc import UserSvc
from deployments.ingress.web import web_app
from pipeline.accounts import ADMIN_SLUG, Accounts
from pipeline.admin import ensure_admin
from tests.unit.accounts_in_memory import MemoryAccounts, memory_accounts

KEY = generate_private_key(public_exponent=65537, key_size=2048)
TOKENS = Tokens(KEY, lifetime_s=24 * 3600)
SIGN_UP = {"appHost": "unnamed", "slug": "alice", "password": "canary-pass-word"}


@pytest.fixture
def accounts() -> Accounts:
    return memory_accounts()


@pytest.fixture
async def client(accounts: Accounts):
    await ensure_admin(accounts, "", bound_to_loopback=True)
    app = web_app(UserSvc(accounts, TOKENS, max_body_bytes=65_536).routes(Gate(Bearers(TOKENS))))
    assert not unguarded(app.routes)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
        yield client


async def sign_up(client: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    answer = await client.post("/user-svc/register", json={**SIGN_UP, **changes})
    assert answer.status_code == 200, answer.text
    return answer.json()["token"]


def masked(text: str) -> str:
    """A reply with what differs from run to run replaced by its shape."""
    text = re.sub(r'"eyJ[\w-]+\.[\w-]+\.[\w-]+"', '"<jwt>"', text)
    text = re.sub(r"(usr|tok)-[0-9A-Za-z]{22}\b", r"\1-<id>", text)
    return re.sub(r"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "<time>", text)


TOKEN_REPLY = json.dumps(
    {
        "token": {
            "appId": app_id_of("unnamed"),
            "createdAt": "<time>",
            "device": "cli",
            "expiresAt": "<time>",
            "id": "tok-<id>",
            "token": "<jwt>",
            "updatedAt": "<time>",
            "userId": "usr-<id>",
        }
    },
    separators=(",", ":"),
)


async def test_login(client: httpx.AsyncClient):
    body = {"appHost": "unnamed", "slug": ADMIN_SLUG, "password": "changeme", "device": "cli"}
    answer = await client.post("/user-svc/login", json=body)
    assert (answer.status_code, masked(answer.text)) == (200, TOKEN_REPLY)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "application/json"
    claims = jwt.decode(answer.json()["token"]["token"], TOKENS.public_pem, algorithms=["RS256"])
    assert claims["1ro"] == ["user-svc:admin", "user-svc:user"]
    assert claims["exp"] - claims["iat"] == 24 * 3600


async def test_register(client: httpx.AsyncClient):
    answer = await client.post("/user-svc/register", json={**SIGN_UP, "device": "cli"})
    assert (answer.status_code, masked(answer.text)) == (200, TOKEN_REPLY)
    assert answer.headers["cache-control"] == "no-store"
    again = await client.post("/user-svc/register", json=SIGN_UP)
    assert (again.status_code, again.text) == (409, '{"error": "slug: \'alice\' is taken"}')


async def test_nobody_registers_as_more_than_a_user(client: httpx.AsyncClient):
    token = await sign_up(client, roles=["user-svc:admin"], admin=True, id="usr-x")
    claims = jwt.decode(token["token"], TOKENS.public_pem, algorithms=["RS256"])
    assert claims["1ro"] == ["user-svc:user"]
    assert token["userId"] != "usr-x"


@pytest.mark.parametrize("body", [None, {}, {"countTokens": True}])
async def test_self(client: httpx.AsyncClient, body: dict | None):
    token = await sign_up(client, name="Alice")
    content = b"" if body is None else json.dumps(body).encode()
    answer = await client.post("/user-svc/self", content=content, headers={"authorization": token["token"]})
    assert answer.status_code == 200
    assert masked(answer.text) == json.dumps(
        {
            "user": {
                "id": "usr-<id>",
                "createdAt": "<time>",
                "updatedAt": "<time>",
                "slug": "alice",
                "name": "Alice",
            },
            "roles": ["user-svc:user"],
            "organizations": [],
            "contacts": [],
            "tokenCount": 0,
        },
        separators=(",", ":"),
    )
    assert answer.json()["user"]["createdAt"] == "2026-03-15T08:04:58.123456Z"


async def test_a_user_without_a_name_has_no_such_key(client: httpx.AsyncClient):
    token = await sign_up(client)
    answer = await client.post("/user-svc/self", headers={"authorization": f"Bearer {token['token']}"})
    assert set(answer.json()["user"]) == {"id", "createdAt", "updatedAt", "slug"}


async def test_refresh_token(client: httpx.AsyncClient):
    token = await sign_up(client, device="cli")
    answer = await client.post("/user-svc/refresh-token", headers={"authorization": f"Bearer {token['token']}"})
    assert (answer.status_code, masked(answer.text)) == (200, TOKEN_REPLY)
    assert answer.json()["token"]["id"] != token["id"]
    assert answer.json()["token"]["appId"] == token["appId"]


async def test_public_key(client: httpx.AsyncClient):
    answer = await client.get("/user-svc/public-key")
    assert answer.status_code == 200
    assert list(answer.json()) == ["publicKey"]
    assert answer.json()["publicKey"].startswith("-----BEGIN PUBLIC KEY-----\n")
    assert answer.headers["cache-control"] == "public, max-age=300"


@pytest.mark.parametrize(
    ("path", "changes", "status", "error"),
    [
        ("login", {"appHost": None}, 400, "AppHost missing"),
        ("login", {"slug": ""}, 400, "Slug missing"),
        ("login", {"password": None}, 400, "Password missing"),
        ("login", {"slug": "nobody"}, 401, "Invalid Password"),
        ("login", {"slug": ADMIN_SLUG, "password": "wrong"}, 401, "Invalid Password"),
        ("login", {"slug": ["x"]}, 400, "slug: got an array, allowed is a string"),
        ("login", {"password": ["canary"]}, 400, "password: got an array, allowed is a string"),
        (
            "login",
            {"device": "x" * 257},
            400,
            "device: got 257 characters, allowed is at most 256 characters",
        ),
        ("register", {"appHost": ""}, 400, "AppHost missing"),
        ("register", {"slug": None}, 400, "Slug missing"),
        ("register", {"password": ""}, 400, "Password missing"),
        (
            "register",
            {"slug": "Not OK"},
            400,
            "slug: got 'Not OK', allowed is 1 to 64 lower-case letters and digits, separated by single hyphens",
        ),
        (
            "register",
            {"password": "1234567"},
            400,
            "password: got 7 characters, allowed is 8 to 1024 characters",
        ),
        ("register", {"name": "x" * 129}, 400, "name: got 129 characters, allowed is at most 128 characters"),
        ("register", {"slug": ADMIN_SLUG}, 409, "slug: '1backend' is taken"),
    ],
)
async def test_what_is_wrong_is_said(client: httpx.AsyncClient, path: str, changes: dict, status: int, error: str):
    answer = await client.post(f"/user-svc/{path}", json={**SIGN_UP, **changes})
    assert (answer.status_code, answer.json()) == (status, {"error": error})


async def test_a_body_that_is_no_json_or_too_large(client: httpx.AsyncClient):
    answer = await client.post("/user-svc/login", content=b"{")
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("Invalid JSON")
    assert (await client.post("/user-svc/login", content=b"{" + b" " * 65_536)).status_code == 413


async def test_numbers_from_the_command_line_are_passwords_and_slugs_too(client: httpx.AsyncClient):
    await sign_up(client, slug=123, password=1234567890)
    for number in (0.123456789, 2**70):
        refused = await client.post("/user-svc/register", json={**SIGN_UP, "password": number})
        assert refused.json() == {"error": "password: got a number, allowed is a string"}
    answer = await client.post("/user-svc/login", json={**SIGN_UP, "slug": "123", "password": "1234567890"})
    assert answer.status_code == 200


async def test_guessing_is_answered_with_429(client: httpx.AsyncClient):
    for _ in range(10):
        answer = await client.post("/user-svc/login", json={**SIGN_UP, "password": "wrong"})
        assert answer.status_code == 401
    answer = await client.post("/user-svc/login", json={**SIGN_UP, "password": "wrong"})
    assert (answer.status_code, answer.json()) == (429, {"error": "Too many failed logins, try again later"})
    assert answer.headers["retry-after"] == "60"


@pytest.mark.parametrize("path", ["self", "refresh-token"])
@pytest.mark.parametrize("header", [{}, {"authorization": "Bearer x"}])
async def test_without_a_token_nothing_is_shown(client: httpx.AsyncClient, path: str, header: dict):
    answer = await client.post(f"/user-svc/{path}", headers=header)
    assert (answer.status_code, answer.text) == (401, '{"error": "Unauthorized"}')


@pytest.mark.parametrize("path", ["self", "refresh-token"])
async def test_the_token_of_an_account_that_is_gone(client: httpx.AsyncClient, accounts: Accounts, path: str):
    token = await sign_up(client)
    assert isinstance(accounts.store, MemoryAccounts)
    del accounts.store.accounts[token["userId"]]
    answer = await client.post(f"/user-svc/{path}", headers={"authorization": token["token"]})
    assert answer.status_code == 401


async def test_a_refreshed_token_has_the_roles_of_now(client: httpx.AsyncClient, accounts: Accounts):
    token = await sign_up(client)
    assert isinstance(accounts.store, MemoryAccounts)
    account = accounts.store.accounts[token["userId"]]
    accounts.store.accounts[token["userId"]] = replace(account, roles=("user-svc:admin", "user-svc:user"))
    answer = await client.post("/user-svc/refresh-token", headers={"authorization": token["token"]})
    claims = jwt.decode(answer.json()["token"]["token"], TOKENS.public_pem, algorithms=["RS256"])
    assert claims["1ro"] == ["user-svc:admin", "user-svc:user"]
