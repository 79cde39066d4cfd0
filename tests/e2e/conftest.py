"""One service for all end-to-end tests: the repository's serve_config.yaml with the real model, and beside it scripted models
that fail on demand."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
import yaml

from deployments.settings import deployment_name
from tests.service import ROOT, Service, free_port, running_service

#: A prompt with these words fails for good at the model "test/slow", after three tokens.
BREAKING = "break off"
#: Catalogue entries for faults; the answers of the scripted engine are functions of the prompt.
SCRIPTED: dict[str, dict[str, Any]] = {
    "test/flaky": {"step_s": 0.001, "fail_first": 2},
    "test/broken": {"step_s": 0.001, "fail_permanently": True},
    "test/slow": {
        "step_s": 1.0,
        "answer_tokens": 120,
        "faulty_prompts": BREAKING,
        "fail_permanently": True,
        "fail_after_tokens": 3,
    },
    "test/mortal": {"step_s": 0.02, "answer_tokens": 60, "faulty_prompts": "mortal", "die_after_tokens": 20},
}
#: Has no replica until it is started, and alone makes something of nothing.
ASLEEP = "test/asleep"
#: Has as many replicas as its queue needs, from none to two of four permits each.
ELASTIC = "test/elastic"
ELASTIC_PERMITS = 4
#: Attempts a slow replica holds; the prompts beyond wait.
SLOW_PERMITS = 4
SYNC_WAIT_S = 120.0
HEARTBEAT_S = 1.0
#: Of one file, and of all of a user's.
MAX_FILE_BYTES, USER_FILES_BYTES = 3_000_000, 5_000_000

Connect = Callable[[], Awaitable[httpx.AsyncClient]]


def config_with_scripted_models() -> dict[str, Any]:
    config = yaml.safe_load((ROOT / "serve_config.yaml").read_text(encoding="utf-8"))
    app = config["applications"][0]
    # A synchronous prompt waits for less long than a replica may take to start.
    (painter,) = (d for d in app["deployments"] if d["name"] == deployment_name("painter", "Diffusion"))
    painter["num_replicas"] = 1
    del painter["autoscaling_config"]
    app["args"]["sync_wait_s"] = SYNC_WAIT_S
    app["args"]["sse_heartbeat_s"] = HEARTBEAT_S
    app["args"]["max_file_bytes"], app["args"]["user_files_bytes"] = MAX_FILE_BYTES, USER_FILES_BYTES
    for model_id, options in SCRIPTED.items():
        permits = SLOW_PERMITS if model_id == "test/slow" else 16
        app["args"]["models"].append(
            {"id": model_id, "engine": "scripted", "source": "scripted", "permits": permits, "engine_args": options}
        )
        app["deployments"].append({"name": deployment_name(model_id), "ray_actor_options": {"num_cpus": 0}})
    app["args"]["models"].append(
        {
            "id": ASLEEP,
            "engine": "scripted",
            "source": "scripted",
            "capabilities": ["unconditional-image-generation"],
            "engine_args": {"step_s": 0.001},
        }
    )
    app["deployments"].append(
        {
            "name": deployment_name(ASLEEP),
            "ray_actor_options": {"num_cpus": 0},
            "autoscaling_config": {"min_replicas": 0, "initial_replicas": 0, "max_replicas": 1, "upscale_delay_s": 0},
        }
    )
    app["args"]["models"].append(
        {
            "id": ELASTIC,
            "engine": "scripted",
            "source": "scripted",
            "permits": ELASTIC_PERMITS,
            "drain_s": 2,
            "engine_args": {"step_s": 0.05, "answer_tokens": 400},
        }
    )
    app["deployments"].append(
        {
            "name": deployment_name(ELASTIC),
            "ray_actor_options": {"num_cpus": 0},
            "autoscaling_config": {
                "min_replicas": 0,
                "initial_replicas": 0,
                "max_replicas": 2,
                "target_ongoing_requests": ELASTIC_PERMITS,
                "upscale_delay_s": 0,
                "downscale_delay_s": 2,
                "downscale_to_zero_delay_s": 2,
            },
        }
    )
    return config


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("e2e")
    file = folder / "serve_config.yaml"
    content = config_with_scripted_models()
    (mortal,) = (m for m in content["applications"][0]["args"]["models"] if m["id"] == "test/mortal")
    mortal["engine_args"] |= {"once_file": str(folder / "has-died")}
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    environ = {"PROMPT_SVC_RAY_DASHBOARD_PORT": str(free_port())}
    with running_service(folder / "data", config=file, environ=environ) as running:
        yield running


@pytest.fixture
async def connect(service: Service) -> AsyncIterator[Callable[[str | None], httpx.AsyncClient]]:
    """Makes HTTP clients, each with its own token (or none), closed after the test."""
    async with AsyncExitStack() as stack:

        def make(token: str | None = None) -> httpx.AsyncClient:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            client = httpx.AsyncClient(base_url=service.url, headers=headers, timeout=60)
            stack.push_async_callback(client.aclose)
            return client

        yield make


@pytest.fixture
async def anonymous(connect: Callable[..., httpx.AsyncClient]) -> httpx.AsyncClient:
    return connect()


@pytest.fixture
async def admin(connect: Callable[..., httpx.AsyncClient], anonymous: httpx.AsyncClient) -> httpx.AsyncClient:
    """The admin, by the documented login."""
    body = {"appHost": "unnamed", "slug": "1backend", "password": "changeme"}
    response = await anonymous.post("/user-svc/login", json=body)
    assert response.status_code == 200, response.text
    return connect(response.json()["token"]["token"])


_numbers = itertools.count()


@pytest.fixture
def new_user(connect: Callable[..., httpx.AsyncClient], anonymous: httpx.AsyncClient) -> Connect:
    """Registers a fresh user and returns their client."""

    async def register() -> httpx.AsyncClient:
        slug = f"user-{next(_numbers)}-{secrets.token_hex(3)}"
        body = {"appHost": "unnamed", "slug": slug, "password": "correct horse battery"}
        response = await anonymous.post("/user-svc/register", json=body)
        assert response.status_code == 200, response.text
        return connect(response.json()["token"]["token"])

    return register


@pytest.fixture
async def user(new_user: Connect) -> httpx.AsyncClient:
    """A user whom nobody else is."""
    return await new_user()


@pytest.fixture
def store(service: Service) -> Iterator[Any]:
    """The service's own store, to look whether something is really gone."""
    import redis

    url = service.record.redis_url
    with redis.Redis.from_url(url) as client:
        yield client
