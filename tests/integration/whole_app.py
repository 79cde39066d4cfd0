"""The ingress with every route over HTTP and a real store, in a thread of the test process: no Ray, and nothing generates."""

from __future__ import annotations

import asyncio
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from functools import cache
from typing import Any

import httpx
import redis
import uvicorn
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from redis.exceptions import RedisError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.files import open_file_store
from deployments.ingress.downloader import Downloader
from deployments.ingress.model_state import ServeControl, ServeView
from deployments.ingress.routes import route_table
from deployments.ingress.tokens import Tokens
from deployments.ingress.web import web_app
from deployments.models import ModelText
from deployments.settings import Settings
from deployments.tasks import Supervisor
from pipeline.accounts import Account, Accounts, Role
from pipeline.errors import StoreUnavailable
from pipeline.passwords import Passwords
from pipeline.store.account_keys import AccountKeys
from pipeline.store.accounts import RedisAccounts
from pipeline.store.connection import connect_impatient
from tests.unit.accounts_in_memory import cheap_hasher
from tests.unit.whole_table import CATALOGUE
from tests.waiting import wait_for

#: Begins like one, and that is what is looked at.
IMAGE = b"\x89PNG\r\n\x1a\n" + bytes(100)
#: A sync prompt is not waited for: nothing generates.
SYNC_WAIT_S = 0.001
TOKEN_S = 3600


class FirstPart:
    """Ends an event stream behind its first part: it would stay open for ever, and clients of tests read to the end."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_stream = False
        over = asyncio.Event()

        async def pass_on(message: Message) -> None:
            nonlocal is_stream
            if over.is_set():
                return
            if message["type"] == "http.response.start":
                is_stream = any(
                    name == b"content-type" and value.startswith(b"text/event-stream")
                    for name, value in message["headers"]
                )
            elif is_stream and message.get("body"):
                over.set()
                message = {**message, "more_body": False}
            await send(message)

        async def hang_up() -> Message:
            message = asyncio.ensure_future(receive())
            ended = asyncio.ensure_future(over.wait())
            await asyncio.wait({message, ended}, return_when=asyncio.FIRST_COMPLETED)
            if message.done():
                ended.cancel()
                return message.result()
            message.cancel()
            return {"type": "http.disconnect"}

        await self._app(scope, hang_up, pass_on)


class WholeApp:
    """A running one."""

    def __init__(self, url: str, accounts: Mapping[str, Account], redis_url: str) -> None:
        self.url = url
        self._accounts = accounts
        self._redis_url = redis_url

    def token(self, slug: str, *, age_s: float = 0, roles: Sequence[str] | None = None) -> str:
        """An access token of ``alice``, ``bob``, ``eve`` or ``root`` (the admin), issued some time ago, perhaps with other roles.
        It is good even if the user's earlier ones are not any more."""
        account = replace(self._accounts[slug], token_generation=self._generation(slug))
        if roles is not None:
            account = replace(account, roles=tuple(roles))
        tokens = Tokens(_key(), lifetime_s=TOKEN_S, clock=lambda: time.time() - age_s)
        return tokens.issue(account, app_id="app-1", device="test").encoded

    def user_id(self, slug: str) -> str:
        return self._accounts[slug].id

    def _generation(self, slug: str) -> int:
        key = AccountKeys(settings_for(self._redis_url).redis_namespace).user(self.user_id(slug))
        with suppress(RedisError), redis.Redis.from_url(self._redis_url) as store:
            return int(store.hget(key, "tokens") or 0)  # type: ignore[arg-type]
        return 0

    def client(self, slug: str | None = None) -> httpx.Client:
        headers = {} if slug is None else {"Authorization": f"Bearer {self.token(slug)}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=10)


def settings_for(redis_url: str) -> Settings:
    return Settings.parse({"redis_url": redis_url, "sync_wait_s": SYNC_WAIT_S, **CATALOGUE})


class _Asleep(ServeControl):
    """A Serve whose every model is scaled to zero, for ever."""

    async def view(self, deployment: str) -> ServeView | None:
        return ServeView(status="HEALTHY")


def _downloader() -> Downloader:
    """An internet of one image, which is everywhere."""

    async def resolve(_host: str) -> Sequence[str]:
        return ["1.1.1.1"]

    def transport() -> httpx.AsyncBaseTransport:
        return httpx.MockTransport(lambda _request: httpx.Response(200, stream=httpx.ByteStream(IMAGE)))

    return Downloader(enabled=True, max_bytes=1000, resolve=resolve, transport=transport)


@cache
def _key() -> RSAPrivateKey:
    return generate_private_key(public_exponent=65537, key_size=2048)


@contextmanager
def running_app(redis_url: str) -> Iterator[WholeApp]:
    """Serve the whole table on loopback, with three users and an admin in the store, if there is one."""
    made: dict[str, Account] = {}
    folder = tempfile.TemporaryDirectory()
    settings = settings_for(redis_url).model_copy(update={"data_dir": folder.name})

    @asynccontextmanager
    async def whole(app: Any) -> Any:
        client = connect_impatient(redis_url)
        supervisor = Supervisor()
        files = open_file_store(client, settings)
        accounts = Accounts(RedisAccounts(client, AccountKeys(settings.redis_namespace)), Passwords(cheap_hasher()))
        for slug in ("alice", "bob", "eve", "root"):
            roles = [Role.ADMIN, Role.USER] if slug == "root" else [Role.USER]
            made[slug] = await accounts.draft(slug=slug, password="correct horse", name="", roles=tuple(roles))
            with suppress(StoreUnavailable, RedisError):
                await accounts.store.create(made[slug])
        app.router.routes.extend(
            route_table(
                settings,
                client,
                accounts=accounts,
                tokens=Tokens(_key(), lifetime_s=TOKEN_S),
                texts={spec.id: ModelText.open(spec, settings) for spec in settings.models},
                supervisor=supervisor,
                files=files,
                serve=_Asleep(),
                downloader=_downloader(),
            )
        )
        yield
        await supervisor.stop()
        files.close()
        accounts.passwords.close()
        await client.aclose()

    server = uvicorn.Server(
        uvicorn.Config(
            FirstPart(web_app([], lifespan=whole)),
            log_level="warning",
            lifespan="on",
            ws="none",
            timeout_graceful_shutdown=5,
        )
    )
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            wait_for(lambda: server.started or not thread.is_alive(), what="the app's start")
            assert thread.is_alive()
            yield WholeApp(f"http://127.0.0.1:{listening.getsockname()[1]}", made, redis_url)
        finally:
            server.should_exit = True
            thread.join(20)
            folder.cleanup()
    assert not thread.is_alive()
