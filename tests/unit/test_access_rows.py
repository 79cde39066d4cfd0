"""Every route against every kind of caller, by the table in ``tests/access_rows.py``. No store: the gate decides alone."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from deployments.ingress.auth import Access, Gate, GuardedRoute, unguarded
from deployments.ingress.bearers import Bearers
from deployments.ingress.tokens import Tokens
from deployments.ingress.web import web_app
from pipeline.accounts import Account, Role
from tests.access_rows import ROWS, For
from tests.unit.whole_table import routes

KEY = generate_private_key(public_exponent=65537, key_size=2048)
TOKENS = Tokens(KEY, lifetime_s=3600)
EXPIRED = Tokens(KEY, lifetime_s=60, clock=lambda: 1_700_000_000)
FOREIGN = Tokens(generate_private_key(public_exponent=65537, key_size=2048), lifetime_s=3600)


async def reached(_request: Request) -> Response:
    return JSONResponse({"reached": True})


def method_of(route: GuardedRoute) -> str:
    (method,) = (route.methods or set()) - {"HEAD"}
    return method


#: The service's own routes with nothing behind them: whoever gets through the gate is told so.
STUBS = [
    GuardedRoute(
        method_of(route),
        route.path,
        reached,
        access=route.access,
        gate=Gate(Bearers(TOKENS)),
        ticket=route.opened_by_ticket,
        limited=route.limited,
    )
    for route in routes()
]
NAMES = [f"{method_of(route)} {route.path}" for route in routes()]


@pytest.fixture
async def client():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=web_app(STUBS)), base_url="http://test") as client:
        yield client


def bearer(*roles: str, tokens: Tokens = TOKENS) -> str:
    account = Account(id="usr-1", slug="alice", password_hash="", roles=roles, created_at=1, updated_at=1)
    return "Bearer " + tokens.issue(account, app_id="app-1", device="").encoded


CALLERS: dict[str, tuple[str | None, set[For]]] = {
    "no token": (None, {For.ANYONE}),
    "an empty token": ("", {For.ANYONE}),
    "not a token": ("Bearer a.b.c", {For.ANYONE}),
    "an expired token": (bearer(Role.ADMIN, Role.USER, tokens=EXPIRED), {For.ANYONE}),
    "somebody else's signature": (bearer(Role.ADMIN, tokens=FOREIGN), {For.ANYONE}),
    "a token without roles": (bearer(), {For.ANYONE, For.TOKEN}),
    "a role nobody knows": (bearer("user-svc:guest", "*", "admin"), {For.ANYONE, For.TOKEN}),
    "a user": (bearer(Role.USER), {For.ANYONE, For.TOKEN, For.USER}),
    "an admin": (bearer(Role.ADMIN, Role.USER), set(For)),
    "an admin who is no user": (bearer(Role.ADMIN), set(For)),
}


def test_every_route_has_a_row_and_every_row_a_route():
    assert sorted(NAMES) == sorted(ROWS)


def test_every_route_says_who_may_use_it():
    assert unguarded(web_app(routes()).routes) == []


@pytest.mark.parametrize("name", [name for name in NAMES if "{" in name])
def test_a_route_with_an_id_says_whose_it_is(name: str):
    assert (ROWS[name].owned is None) == bool(ROWS[name].nobodys)


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("name", NAMES)
async def test_the_gate_lets_through_whom_the_row_names(client: httpx.AsyncClient, name: str, caller: str):
    method, path = name.split(" ")
    token, audiences = CALLERS[caller]
    headers: dict[str, Any] = {} if token is None else {"authorization": token}
    answer = await client.request(method, path.replace("{", "").replace("}", ""), headers=headers)
    if ROWS[name].audience in audiences:
        assert answer.json() == {"reached": True}
    else:
        assert (answer.status_code, answer.json()) == (401, {"error": "Unauthorized"})


@pytest.mark.parametrize("where", ["ticket", "token", "access_token", "authorization"])
@pytest.mark.parametrize("name", NAMES)
async def test_a_token_in_a_url_opens_nothing(client: httpx.AsyncClient, name: str, where: str):
    method, path = name.split(" ")
    token = bearer(Role.ADMIN, Role.USER).removeprefix("Bearer ")
    answer = await client.request(method, f"{path.replace('{', '').replace('}', '')}?{where}={token}")
    assert answer.status_code == (200 if ROWS[name].audience is For.ANYONE else 401)


def test_only_subscriptions_are_opened_by_tickets():
    opened = [name for name, route in zip(NAMES, routes(), strict=True) if route.opened_by_ticket]
    assert opened
    assert all(name.startswith("GET ") and ROWS[name].audience is not For.ANYONE for name in opened)
    assert all("subscribe" in name or name.endswith(("/events", "/evens")) for name in opened)


def test_what_can_be_submitted_can_be_limited():
    limited = {name for name, route in zip(NAMES, routes(), strict=True) if route.limited}
    assert {"POST /prompt-svc/prompt", "POST /user-svc/register"} <= limited
    # An admin who has shut themselves out must be able to log in and take a policy back.
    assert not any(
        name.startswith(("POST /user-svc/login", "DELETE /policy-svc", "PUT /policy-svc")) for name in limited
    )


def test_public_routes_are_few():
    public = {name for name, route in zip(NAMES, routes(), strict=True) if route.access is Access.PUBLIC}
    assert public == {name for name, row in ROWS.items() if row.audience is For.ANYONE}
