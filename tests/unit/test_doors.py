"""What a door changes for its own paths: who a caller is, and what errors look like. Other paths do not notice."""

import json

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from deployments.ingress.auth import Access, Gate, GuardedRoute, principal
from deployments.ingress.bearers import Bearers
from deployments.ingress.doors.door import Door
from deployments.ingress.principal import Principal
from deployments.ingress.tokens import Tokens
from deployments.ingress.web import web_app
from pipeline.errors import InvalidField, PromptSvcError, Unauthorized

GATE = Gate(Bearers(Tokens(generate_private_key(public_exponent=65537, key_size=2048), lifetime_s=3600)))


def reply(error: PromptSvcError | HTTPException) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else error.status
    return JSONResponse({"detail": type(error).__name__}, status)


async def identify(request: Request) -> Principal:
    if request.headers.get("x-key") != "open sesame":
        raise Unauthorized
    return Principal(user_id="usr-key", slug="key", roles=(), app_id="app", device="", token_id="key-1", expires_at=0)


async def who(request: Request) -> Response:
    return JSONResponse(principal(request).user_id)


async def fail(_request: Request) -> Response:
    raise InvalidField("size", 0, "at least 1")


async def crash(_request: Request) -> Response:
    raise ZeroDivisionError


@pytest.fixture
async def client():
    door = Door(prefixes=("/other/",), error_reply=reply, identify=identify)
    routes = [
        GuardedRoute("GET", "/other/who", who, access=Access.AUTHENTICATED, gate=GATE, door=door),
        GuardedRoute("GET", "/other/fail", fail, access=Access.PUBLIC, gate=GATE, door=door),
        GuardedRoute("GET", "/other/crash", crash, access=Access.PUBLIC, gate=GATE, door=door),
        GuardedRoute("GET", "/own/who", who, access=Access.AUTHENTICATED, gate=GATE),
        GuardedRoute("GET", "/own/fail", fail, access=Access.PUBLIC, gate=GATE),
    ]
    transport = httpx.ASGITransport(app=web_app(routes))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


async def test_callers_are_who_the_door_says(client: httpx.AsyncClient):
    assert (await client.get("/other/who", headers={"x-key": "open sesame"})).json() == "usr-key"
    assert (await client.get("/other/who")).status_code == 401
    assert (await client.get("/own/who", headers={"x-key": "open sesame"})).status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/other/fail", 400, {"detail": "InvalidField"}),
        ("GET", "/other/crash", 500, {"detail": "ServerError"}),
        ("GET", "/other/nothing", 404, {"detail": "HTTPException"}),
        ("POST", "/other/fail", 405, {"detail": "HTTPException"}),
        ("GET", "/own/fail", 400, {"error": "size: got 0, allowed is at least 1"}),
        ("GET", "/nothing", 404, {"error": "Not Found"}),
    ],
)
async def test_errors_look_as_on_the_door_of_the_path(
    client: httpx.AsyncClient, method: str, path: str, status: int, body: dict[str, str]
):
    answer = await client.request(method, path)
    assert (answer.status_code, json.loads(answer.content)) == (status, body)
