"""One real service for the whole layer: serve_config.yaml as it is, real vLLM, the embedded model and store, real HTTP."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest

from tests.service import Service, running_service

ADMIN = "1backend"
ADMIN_PASSWORD = "changeme"
#: Seconds. A synchronous answer of 512 tokens on a machine that others use as well.
PATIENCE_S = 120.0

NewUser = Callable[[], httpx.Client]


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service. Whoever kills a part of it waits until that part is back."""
    with running_service(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture(scope="session")
def admin(service: Service) -> Iterator[httpx.Client]:
    """A client that is logged in as the admin."""
    with _client(service, "login", ADMIN, ADMIN_PASSWORD) as client:
        yield client


@pytest.fixture(scope="session")
def new_user(service: Service) -> Iterator[NewUser]:
    """A function that registers one more user and returns a client of theirs."""
    with ExitStack() as clients:

        def register() -> httpx.Client:
            slug = f"user-{secrets.token_hex(6)}"
            return clients.enter_context(_client(service, "register", slug, secrets.token_urlsafe(16)))

        yield register


def _client(service: Service, route: str, slug: str, password: str) -> httpx.Client:
    client = httpx.Client(base_url=service.url, timeout=PATIENCE_S)
    answer = client.post(f"/user-svc/{route}", json={"appHost": "e2e", "slug": slug, "password": password})
    assert answer.status_code == 200, answer.text
    client.headers["Authorization"] = f"Bearer {answer.json()['token']['token']}"
    return client
