"""What holds on every route of the ingress, whoever wrote it (SECURITY §2.1, API2, API5, API8, API9). The routes come from
the OpenAPI document: a new one is tested without a line here."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from deployments.ingress.openapi import document
from pipeline.accounts import Role
from tests.integration.whole_app import WholeApp, running_app, settings_for
from tests.unit.whole_table import own_routes

PATHS: dict[str, dict[str, Any]] = document(own_routes())["paths"]
OPERATIONS = [(method.upper(), path) for path, item in PATHS.items() for method in item]
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "TRACE")
#: Engines serve these themselves; ours is inside of the replicas (SECURITY §2.2).
FOREIGN = (
    "/v1/load_lora_adapter", "/collective_rpc", "/sleep", "/wake_up", "/pause", "/resume",
    "/update_weights", "/start_profile", "/stop_profile", "/abort_requests", "/reset_prefix_cache", "/tokenize",
    "/server_info", "/metrics", "/docs", "/redoc", "/version", "/ping", "/invocations",
)  # fmt: skip


def operation(method: str, path: str) -> dict[str, Any]:
    found: dict[str, Any] = PATHS[path][method.lower()]
    return found


#: Of path parameters that are not any text.
IDS = {"model_id": "documented", "file_id": "file-00000000-0000-4000-8000-000000000000"}


def url_of(path: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: IDS.get(match[1], "x"), path)


def reads_json(method: str, path: str) -> bool:
    return "application/json" in operation(method, path).get("requestBody", {}).get("content", {})


PROTECTED = [(method, path) for method, path in OPERATIONS if operation(method, path)["security"]]
WITH_PERMISSION = [(method, path) for method, path in OPERATIONS if "x-permission" in operation(method, path)]
WITH_BODY = [(method, path) for method, path in OPERATIONS if reads_json(method, path)]


@pytest.fixture(scope="module")
def app(valkey: str, _database_numbers: Iterator[int]) -> Iterator[WholeApp]:
    url = f"{valkey.rsplit('/', 1)[0]}/{next(_database_numbers)}"
    with running_app(url) as running:
        yield running


@pytest.fixture(scope="module")
def alice(app: WholeApp) -> Iterator[httpx.Client]:
    with app.client("alice") as client:
        yield client


@pytest.fixture(scope="module")
def root(app: WholeApp) -> Iterator[httpx.Client]:
    """An admin, who gets in everywhere."""
    with app.client("root") as client:
        yield client


@pytest.fixture(scope="module")
def anonymous(app: WholeApp) -> Iterator[httpx.Client]:
    with app.client() as client:
        yield client


def check_common_headers(answer: httpx.Response) -> None:
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-credentials"] == "false"
    assert "Origin" in answer.headers["vary"]


def check_error(answer: httpx.Response, status: int) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["error"]
    assert "\n" not in answer.json()["error"]
    assert "Traceback" not in answer.text
    assert ".py" not in answer.text
    check_common_headers(answer)


@pytest.mark.parametrize(("method", "path"), PROTECTED)
def test_without_a_good_token_it_is_401(method: str, path: str, app: WholeApp, anonymous: httpx.Client):
    good = app.token("alice")
    altered = good[:-8] + ("A" * 8 if good[-8:] != "A" * 8 else "B" * 8)
    for token in (None, "", "Bearer", "nonsense", altered, app.token("alice", age_s=2 * 3600), f"Basic {good}"):
        headers = {} if token is None else {"Authorization": f"Bearer {token}" if token == altered else token}
        answer = anonymous.request(method, url_of(path), headers=headers)
        check_error(answer, 401)
        assert answer.json()["error"] == "Unauthorized"
        assert answer.headers["www-authenticate"] == "Bearer"
    check_error(anonymous.request(method, f"{url_of(path)}?token={good}&access_token={good}"), 401)


@pytest.mark.parametrize(("method", "path"), WITH_PERMISSION)
def test_without_its_permission_it_is_401(method: str, path: str, app: WholeApp, anonymous: httpx.Client):
    nobody = app.token("alice", roles=("user-svc:guest",))
    check_error(anonymous.request(method, url_of(path), headers={"Authorization": nobody}), 401)


@pytest.mark.parametrize("path", PATHS)
def test_another_method_is_405_and_says_which_there_are(path: str, alice: httpx.Client):
    mounted = {method.upper() for method in PATHS[path]}
    implied = {"HEAD"} if "GET" in mounted else set()
    for method in METHODS:
        if method not in mounted:
            answer = alice.request(method, url_of(path))
            check_error(answer, 405)
            assert set(answer.headers["allow"].split(", ")) == mounted | implied


@pytest.mark.parametrize("path", PATHS)
def test_options_is_an_empty_200(path: str, anonymous: httpx.Client):
    answer = anonymous.options(url_of(path), headers={"Origin": "https://app.example"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert answer.headers["access-control-allow-methods"] == "POST, GET, OPTIONS, PUT, DELETE"


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_reply_has_the_common_headers(method: str, path: str, alice: httpx.Client):
    with alice.stream(method, url_of(path)) as answer:
        assert answer.status_code < 500
        check_common_headers(answer)


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b'{"a":"\\u0000"}', b"\xff", b'{"a":' * 65 + b"1" + b"}" * 65])
def test_a_body_that_is_no_json_object_is_400(method: str, path: str, body: bytes, root: httpx.Client):
    check_error(root.request(method, url_of(path), content=body), 400)


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
def test_a_body_over_the_cap_is_413_whether_it_is_announced_or_not(method: str, path: str, root: httpx.Client):
    most = settings_for("redis://unused.invalid").max_body_bytes
    body = json.dumps({"padding": "x" * most}).encode()

    def in_parts() -> Iterator[bytes]:
        for start in range(0, len(body), 65_536):
            yield body[start : start + 65_536]

    check_error(root.request(method, url_of(path), content=body), 413)
    check_error(root.request(method, url_of(path), content=in_parts()), 413)


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "x-nonsense"])
def test_a_compressed_body_is_415(method: str, path: str, encoding: str, root: httpx.Client):
    check_error(root.request(method, url_of(path), content=b"{}", headers={"Content-Encoding": encoding}), 415)


@pytest.mark.parametrize("path", FOREIGN)
def test_an_engines_own_routes_are_404(path: str, alice: httpx.Client):
    for method in ("GET", "POST"):
        check_error(alice.request(method, path), 404)


@pytest.mark.parametrize("path", ["/prompt-svc", "/prompt-svc/", "//health", "/health/", "/x%00", "/..%2f", "/%ff"])
def test_an_unknown_path_is_404(path: str, app: WholeApp, alice: httpx.Client):
    # The whole URL: a client takes what follows two slashes for a host.
    check_error(alice.get(f"{app.url}{path}"), 404)


_ACCOUNT = {"appHost": "a", "slug": "a", "password": "correct horse"}
#: For those that refuse an empty one before they look into the store.
BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/prompt-svc/prompt"): {"prompt": "x"},
    ("POST", "/prompt-svc/remove"): {"promptId": "x"},
    ("POST", "/prompt-svc/template"): {"name": "x", "template": "{prompt}"},
    ("POST", "/chat-svc/thread/{thread_id}/message"): {"text": "x"},
    ("PUT", "/file-svc/download"): {"url": "https://images.example/a.png"},
    ("POST", "/user-svc/login"): _ACCOUNT,
    ("POST", "/user-svc/register"): _ACCOUNT,
    ("POST", "/user-svc/change-password"): {"currentPassword": "correct horse", "newPassword": "battery staple"},
    ("DELETE", "/user-svc/api-keys"): {"id": "x"},
    ("PUT", "/user-svc/permits"): {"permits": [{"permission": "prompt-svc:prompt:view", "roles": ["x"]}]},
    ("POST", "/user-svc/{user_id}/reset-password"): {"newPassword": "battery staple"},
    ("PUT", "/user-svc/enrolls"): {"enrolls": [{"role": "x:y", "userId": "x"}]},
    ("POST", "/user-svc/enrolls"): {"role": "x:y"},
    ("DELETE", "/user-svc/enrolls"): {"ids": ["x"]},
    ("PUT", "/policy-svc/instance/{instance_id}"): {
        "instance": {"templateId": "blocklist", "parameters": {"blocklist": {"blockedIPs": ["192.0.2.1"]}}}
    },
}
#: What they answer with is in no store.
WITHOUT_STORE = {
    "/",
    "/prompt-svc/types",
    "/user-svc/public-key",
    "/openapi.json",
    "/model-svc/model/{model_id}",
    "/model-svc/models",
    "/model-svc/platforms",
}


@pytest.fixture(scope="module")
def without_store() -> Iterator[WholeApp]:
    """The same app when its store is away."""
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        with running_app(f"redis://127.0.0.1:{taken.getsockname()[1]}") as running:
            yield running


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_a_store_that_is_away_is_a_503_and_never_a_500(method: str, path: str, without_store: WholeApp):
    with without_store.client("root") as client:
        if path == "/file-svc/upload":
            answer = client.request(method, path, files={"file": ("a.txt", b"x")})
        else:
            body = BODIES.get((method, path), {}) if reads_json(method, path) else None
            answer = client.request(method, url_of(path), json=body)
    if answer.status_code == 200:
        assert path in WITHOUT_STORE or answer.headers["content-type"].startswith("text/event-stream")
    else:
        check_error(answer, 503)
        assert int(answer.headers["retry-after"]) > 0


def test_roles_decide_what_a_token_may(app: WholeApp):
    """So that the test of permissions above tests something."""
    with app.client() as client:
        token = app.token("alice", roles=(Role.USER,))
        assert client.post("/prompt-svc/prompts", headers={"Authorization": token}).status_code == 200
