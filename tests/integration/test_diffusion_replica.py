"""The ``Diffusion`` deployment's own class on a real store with a real (tiny) pipeline: all of a replica but Ray around it."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from deployments.diffusion import Diffusion
from deployments.replica import model_replica
from deployments.replica.outcome import Outcome
from deployments.settings import Settings
from pipeline.store.connection import connect_patient
from pipeline.store.keys import Keys
from pipeline.store.queue import Grant, ModelQueue
from tests import tiny_pipelines
from tests.integration.ingress_app import IngressApp, ingress_app
from tests.waiting import until_true

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

PAINTER = "org/painter"


_METHODS = dict(vars(Diffusion.func_or_class))
#: The class without what Python calls by itself and only Serve awaits.
Bare = type(
    "Bare", (), {name: item for name, item in _METHODS.items() if name not in ("__init__", "__del__", "__dict__")}
)
Bare.begin, Bare.end = _METHODS["__init__"], _METHODS["__del__"]  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipelines.save_text_to_image(tmp_path_factory.mktemp("latent"))


@pytest.fixture
def models(source: Path) -> list[dict[str, Any]]:
    entry = {"id": PAINTER, "engine": "diffusers", "source": str(source), "engine_args": {"threads": 1}}
    return [{**entry, "images": {"width": 64, "height": 48, "max_steps": 150}}]


@pytest.fixture
async def queue(redis_url: str) -> AsyncIterator[ModelQueue]:
    client = connect_patient(redis_url)
    yield ModelQueue(client, Keys("ps"), PAINTER)
    await client.aclose()


@pytest.fixture
async def replica(redis_url: str, models: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """One that is registered and takes work."""
    context = SimpleNamespace(replica_id=SimpleNamespace(unique_id="replica-1"))
    monkeypatch.setattr(model_replica.serve, "get_replica_context", lambda: context)
    node = SimpleNamespace(get_node_id=lambda: "node-1")
    monkeypatch.setattr(model_replica.ray, "get_runtime_context", lambda: node)
    settings = Settings.parse(
        {"redis_url": redis_url, "files_url": "memory://ingress-app", "models": models, "heartbeat_s": 0.1}
    )
    made = Bare()
    await made.begin(settings.models[0], settings)
    yield made
    if made._replica._heartbeat.is_alive:
        await made.end()


@pytest.fixture
async def app(redis_url: str, models: list[dict[str, Any]]) -> AsyncIterator[IngressApp]:
    async with ingress_app(redis_url, models=models) as app:
        yield app


async def granted(queue: ModelQueue) -> Grant:
    (grant,) = await queue.grant(1, 60)
    return grant


async def test_a_granted_prompt_becomes_a_picture(replica: Any, app: IngressApp, queue: ModelQueue) -> None:
    alice = await app.user("alice")
    body = {"prompt": "a boat", "id": "boat", "parameters": {"textToImage": {"steps": 3, "width": 50}}}
    assert (await app.send("POST", "/prompt-svc/prompt", body, as_=alice)).status_code == 200
    grant = await granted(queue)
    assert await asyncio.wait_for(replica.run(grant.ref, grant.fence, False), 60) == Outcome.ENDED
    answer = (await app.send("GET", "/prompt-svc/prompt/boat", as_=alice)).json()
    assert answer["prompt"]["status"] == "completed", answer
    (file_id,) = answer["responseMessage"]["fileIds"]
    assert answer["responseMessage"]["meta"]["paintSeconds"] > 0
    served = await app.send("GET", f"/file-svc/serve/upload/{file_id}", as_=alice)
    with Image.open(io.BytesIO(served.content)) as image:
        assert image.size == (50, 48)
        assert image.info["parameters"].startswith("a boat\nSteps: 3, Sampler: ddim,")
    await replica.check_health()


async def test_a_cancel_rings_and_the_replica_is_free_for_the_next(
    replica: Any, app: IngressApp, queue: ModelQueue
) -> None:
    alice = await app.user("alice")
    slow = {"prompt": "x", "id": "slow", "parameters": {"textToImage": {"steps": 150, "width": 512, "height": 512}}}
    await app.send("POST", "/prompt-svc/prompt", slow, as_=alice)
    grant = await granted(queue)
    running = asyncio.create_task(replica.run(grant.ref, grant.fence, False))

    async def paints() -> bool:
        return (await queue.depth()).leased == 1 and bool(replica._painter._orders)

    await until_true(paints)
    await app.send("DELETE", "/prompt-svc/prompt/slow", as_=alice)
    assert await asyncio.wait_for(running, 10) == Outcome.STALE
    await app.send("POST", "/prompt-svc/prompt", {"prompt": "y", "id": "next", "type": "Text-to-Image"}, as_=alice)
    grant = await granted(queue)
    assert await asyncio.wait_for(replica.run(grant.ref, grant.fence, False), 60) == Outcome.ENDED
    uploads = (await app.send("POST", "/file-svc/uploads", {}, as_=alice)).json()["uploads"]
    assert [upload["fileName"] for upload in uploads] == ["next-1.png"]


async def test_a_replica_that_stops_hands_its_picture_back(replica: Any, app: IngressApp, queue: ModelQueue) -> None:
    alice = await app.user("alice")
    slow = {"prompt": "x", "id": "slow", "parameters": {"textToImage": {"steps": 150, "width": 512, "height": 512}}}
    await app.send("POST", "/prompt-svc/prompt", slow, as_=alice)
    grant = await granted(queue)
    running = asyncio.create_task(replica.run(grant.ref, grant.fence, False))

    async def paints() -> bool:
        return bool(replica._painter._orders)

    await until_true(paints)
    await asyncio.wait_for(replica.end(), 30)
    with suppress(asyncio.CancelledError):
        await running
    prompt = (await app.send("GET", "/prompt-svc/prompt/slow", as_=alice)).json()["prompt"]
    assert (prompt["status"], prompt.get("runCount", 0)) == ("scheduled", 0)
    assert (await queue.depth()).replicas == 0
