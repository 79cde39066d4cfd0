"""One ingress replica with an image model in its catalogue, and one replica of that model, painted by hand: for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from deployments.replica.attempts import AttemptRunner, Outcome
from deployments.replica.pictures import Pictures
from deployments.tasks import Supervisor
from pipeline.accounts import Account
from pipeline.files.file_store import FileStore
from pipeline.files.record import FileLimits
from pipeline.files.remote_blobs import open_blobs
from pipeline.store.attempts import AttemptStore
from pipeline.store.connection import connect_patient
from pipeline.store.files import FileIndex
from pipeline.store.keys import Keys
from pipeline.store.logs import LogReader, decode_page
from pipeline.store.queue import Grant, ModelQueue
from tests.integration.ingress_app import IngressApp, ingress_app
from tests.unit.painters import HandPainter

KEYS = Keys("ps")
PAINTER = "org/painter"
MODELS = [
    {"id": "org/small", "engine": "scripted", "source": "none", "context_tokens": 256},
    {
        "id": PAINTER,
        "engine": "diffusers",
        "source": "none",
        "capabilities": ["text-to-image", "image-to-image", "unconditional-image-generation"],
        "images": {"width": 64, "height": 48, "max_pixels": 64 * 64, "max_steps": 30, "max_images": 2},
    },
]
BOAT = {"prompt": "a boat", "parameters": {"textToImage": {"seed": 7}}}


@dataclass
class World:
    """One ingress replica, and one replica of the painter."""

    app: IngressApp
    client: Redis
    files: FileStore
    attempts: AttemptStore
    queue: ModelQueue
    painter: HandPainter
    runner: AttemptRunner

    async def grant(self) -> Grant:
        await self.attempts.register(PAINTER, "replica", permits=4, node="n", lease_s=60)
        (grant,) = await self.queue.grant(1, 60)
        return grant

    async def paint(self, pictures: int = 1) -> Outcome:
        """Run the next attempt to its end."""
        grant = await self.grant()
        self.painter.finish(pictures)
        return await asyncio.wait_for(self.runner.run(grant.ref, grant.fence, False), 10)

    async def submit(self, body: Any, as_: Account, status: int = 200) -> Any:
        reply = await self.app.send("POST", "/prompt-svc/prompt", body, as_=as_)
        assert reply.status_code == status, reply.text
        return reply.json()

    async def read(self, prompt_id: str, as_: Account) -> Any:
        reply = await self.app.send("GET", f"/prompt-svc/prompt/{prompt_id}", as_=as_)
        return reply.json()

    async def uploads(self, as_: Account) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.app.send("POST", "/file-svc/uploads", {}, as_=as_)).json()["uploads"]
        return found

    async def usage(self, user: Account) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = await self.client.hgetall(KEYS.file_usage(user.id))
        return found

    async def log(self, ref: str) -> list[Any]:
        (page,) = await LogReader(self.client, KEYS).read([(ref, 0)])
        return decode_page(page)


@asynccontextmanager
async def world(redis_url: str, **settings: Any) -> AsyncIterator[World]:
    client = connect_patient(redis_url)
    limits = FileLimits(file_bytes=1_000_000, user_bytes=settings.pop("user_bytes", 10**9), user_files=10_000)
    files = FileStore(FileIndex(client, KEYS), open_blobs("memory://ingress-app"), limits)
    attempts = AttemptStore(client, KEYS)
    painter = HandPainter()
    supervisor = Supervisor()
    work = Pictures(store=attempts, painter=painter, files=files, model_id=PAINTER)
    runner = AttemptRunner(
        store=attempts,
        work=work,
        model_id=PAINTER,
        replica="replica",
        node="n",
        permits=4,
        lease_s=60,
        supervisor=supervisor,
        on_engine_death=lambda: None,
    )
    async with ingress_app(redis_url, models=MODELS, **settings) as app:
        yield World(app, client, files, attempts, ModelQueue(client, KEYS, PAINTER), painter, runner)
    await supervisor.stop()
    work.close()
    files.close()
    await client.aclose()
