"""What every route shares: error bodies, CORS, access, raw paths."""

import logging
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from redis import exceptions as redis_errors
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from deployments.ingress.auth import (
    Access,
    Gate,
    GuardedRoute,
    Permission,
    RawPath,
    principal,
    unguarded,
)
from deployments.ingress.bearers import Bearers
from deployments.ingress.errors import BrokenOff, describe, error_body
from deployments.ingress.headers import CommonHeaders
from deployments.ingress.tokens import Tokens
from deployments.ingress.web import web_app
from pipeline.accounts import Account, Role
from pipeline.errors import (
    Conflict,
    EngineError,
    InvalidField,
    NotFound,
    StoreRefused,
    StoreUnavailable,
    TooManyRequests,
    Unauthorized,
)

CANARY = "canary-51c0"
TOKENS = Tokens(generate_private_key(public_exponent=65537, key_size=2048), lifetime_s=3600)
GATE = Gate(Bearers(TOKENS))
FAILURES: dict[str, Exception] = {}
#: The headers that scripts of other origins may always send: the contract's, then those of the service's own APIs.
FIXED = (
    "Accept, Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token, Authorization, X-Content-Encrypted, "
    "Last-Event-ID, Idempotency-Key, TrustedClient, Refresh, OpenAI-Organization, OpenAI-Project, OpenAI-Beta"
)


def token(*roles: str, user_id: str = "usr-1") -> str:
    account = Account(id=user_id, slug="alice", password_hash="", roles=roles, created_at=1, updated_at=1)
    return TOKENS.issue(account, app_id="app-1", device="cli").encoded


async def fail(request: Request) -> Response:
    raise FAILURES[request.path_params["name"]]


async def show(request: Request) -> Response:
    return JSONResponse({"id": request.path_params["id"]})


async def who(request: Request) -> Response:
    caller = principal(request)
    return JSONResponse([caller.user_id, caller.slug, caller.is_admin])


async def break_off(_request: Request) -> Response:
    async def parts():
        yield b"data: 1\n\n"
        raise ValueError(CANARY)

    return StreamingResponse(parts(), media_type="text/event-stream")


def route(method: str, path: str, endpoint, access: Permission | Access = Access.PUBLIC) -> GuardedRoute:
    return GuardedRoute(method, path, endpoint, access=access, gate=GATE)


APP = web_app(
    [
        route("POST", "/fail/{name}", fail),
        route("GET", "/show/{id}/end", show),
        route("GET", "/break", break_off),
        route("GET", "/who", who, Access.AUTHENTICATED),
        route("GET", "/create", who, Permission.PROMPT_CREATE),
        route("GET", "/public-who", who),
        route("GET", "/both/{id}", show),
        route("POST", "/both/{id}", show),
    ]
)


@pytest.fixture
async def client():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=APP), base_url="http://test") as client:
        yield client


ERRORS = {
    "field": (
        InvalidField("sync", "x", "true or false"),
        400,
        '{"error": "sync: got \'x\', allowed is true or false"}',
    ),
    "unauthorized": (Unauthorized(), 401, '{"error": "Unauthorized"}'),
    "not-found": (NotFound(), 404, '{"error": "Not Found"}'),
    "conflict": (Conflict("slug: 'a' is taken"), 409, '{"error": "slug: \'a\' is taken"}'),
    "rate": (TooManyRequests(retry_after_s=41.2), 429, '{"error": "Too Many Requests"}'),
    "lines": (NotFound('one "quoted" ü\ntwo'), 404, '{"error": "one \\"quoted\\" ü"}'),
    "surrogate": (NotFound("a\ud800"), 404, '{"error": "a?"}'),
    "engine": (EngineError("out of blocks"), 500, '{"error": "out of blocks"}'),
    "refused": (StoreRefused("evicts"), 503, '{"error": "evicts"}'),
    "unavailable": (
        StoreUnavailable(),
        503,
        '{"error": "The store cannot be reached; try again."}',
    ),
    "redis-connection": (
        redis_errors.ConnectionError(CANARY),
        503,
        '{"error": "The store cannot be reached; try again."}',
    ),
    "redis-timeout": (
        redis_errors.TimeoutError(CANARY),
        503,
        '{"error": "The store cannot be reached; try again."}',
    ),
    "redis-full": (
        redis_errors.OutOfMemoryError(CANARY),
        503,
        '{"error": "The store cannot be reached; try again."}',
    ),
    "redis-response": (redis_errors.ResponseError(CANARY), 500, '{"error": "Internal Server Error"}'),
    "bug": (KeyError(CANARY), 500, '{"error": "Internal Server Error"}'),
    "nested-bug": (ValueError(CANARY), 500, '{"error": "Internal Server Error"}'),
}


@pytest.mark.parametrize("name", ERRORS)
async def test_an_error_is_one_json_object(client: httpx.AsyncClient, name: str, caplog: pytest.LogCaptureFixture):
    FAILURES[name], status, body = ERRORS[name]
    with caplog.at_level(logging.DEBUG):
        answer = await client.post(f"/fail/{name}")
    assert (answer.status_code, answer.text) == (status, body)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert ("retry-after" in answer.headers) == (status in (429, 503) and name != "refused")
    assert (answer.headers.get("www-authenticate") == "Bearer") == (status == 401)
    assert CANARY not in caplog.text


async def test_retry_after_is_whole_seconds(client: httpx.AsyncClient):
    FAILURES["rate"] = ERRORS["rate"][0]
    assert (await client.post("/fail/rate")).headers["retry-after"] == "42"


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/unknown", 404, '{"error": "Not Found"}'),
        ("POST", "/", 404, '{"error": "Not Found"}'),
        ("GET", "/who/", 404, '{"error": "Not Found"}'),
        ("GET", "/who//", 404, '{"error": "Not Found"}'),
        ("GET", "//who", 404, '{"error": "Not Found"}'),
        ("POST", "/who", 405, '{"error": "Method Not Allowed"}'),
        ("BREW", "/who", 405, '{"error": "Method Not Allowed"}'),
        ("GET", "/show/%ff/end", 404, '{"error": "Not Found"}'),
        ("GET", "/-/routes/", 404, '{"error": "Not Found"}'),
    ],
)
async def test_unknown_paths_and_methods(client: httpx.AsyncClient, method: str, path: str, status: int, body: str):
    answer = await client.request(method, path)
    assert (answer.status_code, answer.text) == (status, body)
    assert "location" not in answer.headers
    assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(("path", "allowed"), [("/who", "GET, HEAD"), ("/both/a%2Fb", "GET, HEAD, POST")])
async def test_a_wrong_method_is_told_all_right_ones(client: httpx.AsyncClient, path: str, allowed: str):
    assert (await client.delete(path)).headers["allow"] == allowed


@pytest.mark.parametrize("path", ["/who", "/create", "/unknown"])
async def test_options_is_an_empty_200_anywhere(client: httpx.AsyncClient, path: str):
    answer = await client.options(path, headers={"origin": "https://app.example"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert answer.headers["access-control-allow-methods"] == "POST, GET, OPTIONS, PUT, DELETE"
    assert answer.headers["access-control-allow-credentials"] == "false"
    assert answer.headers["access-control-allow-headers"] == FIXED
    assert answer.headers["vary"] == "Origin, Access-Control-Request-Headers"


async def preflight(client: httpx.AsyncClient, *asked: str) -> str:
    """The headers that are allowed beside those that always are."""
    lines = [("access-control-request-headers", line) for line in asked]
    answer = await client.options("/who", headers=[("origin", "https://app.example"), *lines])
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["access-control-allow-credentials"] == "false"
    allowed: str = answer.headers["access-control-allow-headers"]
    assert allowed.startswith(FIXED)
    return allowed.removeprefix(FIXED)


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        ([], ""),
        ([""], ""),
        (["authorization,content-type,LAST-EVENT-ID,openai-beta"], ""),
        (["x-stainless-lang,x-stainless-retry-count"], ", x-stainless-lang, x-stainless-retry-count"),
        (["x-one, X-One ,authorization,, x-two"], ", x-one, x-two"),
        (["x-one", "x-two"], ", x-one, x-two"),
        # Alone it would be every header.
        (["*,x-*,x-one"], ", x-one"),
        (['x one,x:one,x\tone,"x",(x),x;one,x=one,x-two'], ", x-two"),
        ([f"{'x' * 64},{'y' * 65}"], f", {'x' * 64}"),
        ([",".join(f"x-{n}" for n in range(100))], "".join(f", x-{n}" for n in range(64))),
        ([f"x-one,{'x' * 5000},x-two"], ""),
    ],
    ids=range(11),
)
async def test_a_preflight_allows_the_headers_that_it_asks_for(
    client: httpx.AsyncClient, asked: list[str], allowed: str
):
    assert await preflight(client, *asked) == allowed


@pytest.mark.parametrize(
    "bad", [b"x-a\r\nset-cookie: b=c", b"x-a\nx", b"x-a\n", b"x-a\x00", b"x-\xff", "x-\u0131".encode(), b"x-a\x7f"]
)
async def test_a_preflight_sends_nothing_back_that_is_no_name(bad: bytes):
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"access-control-request-headers", b"x-one," + bad)]
    await CommonHeaders(APP)({"type": "http", "method": "OPTIONS", "headers": headers}, None, send)  # type: ignore[arg-type]
    assert dict(sent[0]["headers"])[b"access-control-allow-headers"].decode() == f"{FIXED}, x-one"


async def test_only_a_preflight_repeats_what_it_was_asked(client: httpx.AsyncClient):
    answer = await client.get("/who", headers={"access-control-request-headers": "x-one"})
    assert answer.headers["access-control-allow-headers"] == FIXED
    assert answer.headers["vary"] == "Origin"


@pytest.mark.parametrize("name", ["rate", "not-found"])
async def test_scripts_may_read_what_replies_say_of_retries_and_prompts(client: httpx.AsyncClient, name: str):
    FAILURES[name] = ERRORS[name][0]
    answer = await client.post(f"/fail/{name}")
    assert answer.headers["access-control-expose-headers"] == (
        "Retry-After, x-prompt-id, x-should-retry, openai-processing-ms"
    )


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("a", "a"),
        ("a%2Fb", "a/b"),
        ("%F0%9F%98%80", "😀"),
        ("a%20b", "a b"),
        ("%252F", "%2F"),
        ("a:b", "a:b"),
    ],
)
async def test_an_encoded_segment_is_one_segment(client: httpx.AsyncClient, sent: str, read: str):
    answer = await client.get(f"/show/{sent}/end?env=&app-host=&help=false")
    assert answer.json() == {"id": read}


async def test_a_server_without_raw_paths_still_works():
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["path"])

    for scope in ({"type": "http", "path": "/a"}, {"type": "lifespan", "path": "-"}):
        await RawPath(app)(scope, None, None)  # type: ignore[arg-type]
    assert seen == ["/a", "-"]


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "{}", " Bearer  {} ", "BEARER {}"])
async def test_a_token_with_and_without_its_scheme(client: httpx.AsyncClient, form: str):
    answer = await client.get("/who", headers={"authorization": form.format(token(Role.USER))})
    assert answer.json() == ["usr-1", "alice", False]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", "")],
        [("authorization", "Bearer")],
        [("authorization", "Bearer ")],
        [("authorization", "Basic YTpi")],
        [("authorization", "Bearer a.b.c")],
        [("authorization", "Bearer " + "x" * 100_000)],
        [("authorization", "Bearer {token} {token}")],
        [("authorization", "Bearer {token}"), ("authorization", "Bearer {token}")],
        [("cookie", "token={token}")],
        [("x-authorization", "{token}")],
    ],
    ids=str,
)
async def test_anything_else_is_unauthorized(client: httpx.AsyncClient, headers: list):
    filled = [(name, value.replace("{token}", token(Role.USER))) for name, value in headers]
    answer = await client.get("/who", headers=filled)
    assert (answer.status_code, answer.text) == (401, '{"error": "Unauthorized"}')


async def test_a_token_in_the_url_is_not_looked_at(client: httpx.AsyncClient):
    answer = await client.get(f"/who?token={token(Role.USER)}&access_token={token(Role.USER)}")
    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("roles", "status"),
    [
        ((Role.USER,), 200),
        ((Role.ADMIN,), 200),
        ((Role.ADMIN, Role.USER), 200),
        ((), 401),
        (("user-svc:guest",), 401),
    ],
)
async def test_a_permission_is_granted_by_role(client: httpx.AsyncClient, roles: tuple, status: int):
    answer = await client.get("/create", headers={"authorization": token(*roles)})
    assert answer.status_code == status


async def test_a_public_route_has_no_principal(client: httpx.AsyncClient):
    assert (await client.get("/public-who", headers={"authorization": token(Role.ADMIN)})).status_code == 401


def test_a_route_that_does_not_say_who_may_use_it_is_found():
    plain = Route("/x", show)
    assert unguarded([*APP.routes, plain]) == [plain]


async def test_a_broken_stream_is_cut_and_logged_without_its_text(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
):
    with pytest.raises(BrokenOff):
        await client.get("/break")
    assert "ValueError" in caplog.text
    assert CANARY not in caplog.text


@pytest.mark.parametrize("error", [ValueError(CANARY), redis_errors.TimeoutError(CANARY)], ids=type)
async def test_a_failure_is_logged_with_its_route_and_not_with_what_was_sent(
    client: httpx.AsyncClient, error: Exception, caplog: pytest.LogCaptureFixture
):
    FAILURES["secret-name"] = error
    await client.post("/fail/secret-name")
    assert "POST /fail/{name}" in caplog.text
    assert "secret-name" not in caplog.text


async def test_a_client_that_left_is_not_answered(client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture):
    FAILURES["left"] = ClientDisconnect()
    with pytest.raises(AssertionError):  # httpx insists on a reply
        await client.post("/fail/left")
    assert not caplog.records


def test_a_description_has_frames_and_types_but_no_messages():
    try:
        try:
            raise KeyError(CANARY)
        except KeyError as error:
            raise ValueError(CANARY) from error
    except ValueError as error:
        text = describe(error)
    assert text.startswith("ValueError\n")
    assert "caused by KeyError\n" in text
    assert "test_web.py" in text
    assert f'"{CANARY}' not in text


def test_an_empty_message_is_an_empty_error():
    assert error_body(400, "").body == b'{"error": ""}'
