"""The ingress over HTTP with scripted replicas behind it, in a thread of the test process: prompts are answered, without Ray."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from deployments.engines.parsed import ParsedEngine, Parsers
from deployments.engines.scripted import ScriptedEngine
from deployments.files import open_file_store
from deployments.ingress.routes import route_table
from deployments.ingress.tokens import Tokens
from deployments.ingress.web import web_app
from deployments.models import ModelText
from deployments.replica.attempts import AttemptRunner
from deployments.replica.histories import Histories
from deployments.replica.text_answers import TextAnswers
from deployments.settings import ModelSpec, Settings
from deployments.tasks import Supervisor
from pipeline.accounts import Account, Accounts, Role
from pipeline.passwords import Passwords
from pipeline.store.account_keys import AccountKeys
from pipeline.store.accounts import RedisAccounts
from pipeline.store.attempts import AttemptStore
from pipeline.store.bells import listen
from pipeline.store.connection import connect_impatient, connect_patient
from pipeline.store.history import HistoryReader
from pipeline.store.keys import Keys
from pipeline.store.queue import ModelQueue
from tests.unit.accounts_in_memory import cheap_hasher
from tests.unit.tag_parsers import TagParsers
from tests.waiting import wait_for

_KEY = generate_private_key(public_exponent=65537, key_size=2048)
LEASE_S = 1000.0


@dataclass
class ScriptedService:
    """One ingress and one replica of each model."""

    url: str
    users: Mapping[str, Account]
    engines: Mapping[str, ScriptedEngine] = field(default_factory=dict)

    def token(self, slug: str, **changes: Any) -> str:
        account = self.users[slug]
        if changes:
            fields = {name: getattr(account, name) for name in ("id", "slug", "roles", "password_hash")}
            account = Account(**{**fields, "created_at": 0, "updated_at": 0, **changes})
        return Tokens(_KEY, lifetime_s=3600).issue(account, app_id="app", app_host="host", device="").encoded

    def client(self, slug: str = "alice") -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.token(slug)}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30)

    def running(self, model_id: str) -> int:
        """Requests that the model's engine generates."""
        return len(self.engines[model_id].running)


@contextmanager
def scripted_service(
    redis_url: str, *models: ModelSpec, make_parsers: Callable[[ModelSpec], Parsers] | None = None, **settings: Any
) -> Iterator[ScriptedService]:
    """``alice`` and ``bob`` are users, ``root`` is an admin."""
    parsed = Settings.parse(
        {
            "redis_url": redis_url,
            "files_url": f"memory://scripted-{os.getpid()}",
            "models": [spec.model_dump() for spec in models],
            **settings,
        }
    )
    service = ScriptedService("", {}, {spec.id: ScriptedEngine(spec) for spec in models})
    made: dict[str, Account] = {}
    inner: list[Starlette] = []
    outer = Starlette(lifespan=lambda _: _whole(inner, parsed, service, made, make_parsers))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (outer if scope["type"] == "lifespan" else inner[0])(scope, receive, send)

    server = uvicorn.Server(
        uvicorn.Config(app, log_level="warning", lifespan="on", ws="none", timeout_graceful_shutdown=5)
    )
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        service.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            wait_for(lambda: server.started or not thread.is_alive(), what="the app's start")
            assert thread.is_alive()
            service.users = made
            yield service
        finally:
            server.should_exit = True
            thread.join(20)
    assert not thread.is_alive()


@asynccontextmanager
async def _whole(
    inner: list[Starlette],
    settings: Settings,
    service: ScriptedService,
    made: dict[str, Account],
    make_parsers: Callable[[ModelSpec], Parsers] | None,
) -> AsyncIterator[None]:
    url = settings.redis_url.get_secret_value()
    client, patient = connect_impatient(url), connect_patient(url)
    supervisor = Supervisor()
    accounts = Accounts(RedisAccounts(client, AccountKeys(settings.redis_namespace)), Passwords(cheap_hasher()))
    for slug, roles in (("alice", [Role.USER]), ("bob", [Role.USER]), ("root", [Role.ADMIN, Role.USER])):
        made[slug] = await accounts.draft(slug=slug, password="correct horse", name="", roles=tuple(roles))
        await accounts.store.create(made[slug])
    files = open_file_store(client, settings)
    texts = {spec.id: ModelText.open(spec, settings) for spec in settings.models}
    keys = Keys(settings.redis_namespace)
    tokens = Tokens(_KEY, lifetime_s=3600)
    routes = route_table(
        settings, client, accounts=accounts, tokens=tokens, texts=texts, supervisor=supervisor, files=files
    )
    inner.append(web_app(routes))
    for spec in settings.models:
        engine = ParsedEngine(
            service.engines[spec.id], lambda spec=spec: make_parsers(spec) if make_parsers else TagParsers()
        )
        store = AttemptStore(patient, keys)
        runner = AttemptRunner(
            store=store,
            work=TextAnswers(
                store=store,
                engine=engine,
                histories=Histories(HistoryReader(patient, keys), texts[spec.id]),
                model_id=spec.id,
            ),
            model_id=spec.id,
            replica=spec.id,
            node="node",
            permits=spec.permits,
            lease_s=LEASE_S,
            supervisor=supervisor,
            on_engine_death=lambda: None,
        )
        await store.register(spec.id, spec.id, permits=spec.permits, node="node", lease_s=LEASE_S)
        queue = ModelQueue(patient, keys, spec.id)
        supervisor.keep_running(lambda q=queue, r=runner: _work(supervisor, q, r), name="work")
        supervisor.keep_running(lambda r=runner, s=spec: _doorbell(patient, keys, r, s), name="doorbell")
    yield
    await supervisor.stop()
    files.close()
    accounts.passwords.close()
    await client.aclose()
    await patient.aclose()


async def _work(supervisor: Supervisor, queue: ModelQueue, runner: AttemptRunner) -> None:
    """Router and ledger in four lines."""
    while True:
        for grant in await queue.grant(64, LEASE_S):
            supervisor.spawn(runner.run(grant.ref, grant.fence, grant.alone), name="run")
        await queue.sweep(["node"])
        await asyncio.sleep(0.005)


async def _doorbell(client: Any, keys: Keys, runner: AttemptRunner, spec: ModelSpec) -> None:
    async for ring in listen(client, [keys.doorbell(spec.id)]):
        if ring is None:
            await runner.look_again_at_all()
        else:
            await runner.look_again(ring[1].decode())
