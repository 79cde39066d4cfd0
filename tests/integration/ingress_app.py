"""The whole ingress without Serve: every route on a real store, called in this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx
from argon2 import PasswordHasher
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from starlette.types import ASGIApp

from deployments.files import open_file_store
from deployments.ingress.auth import GuardedRoute
from deployments.ingress.doors.handle.calls import HandleCalls
from deployments.ingress.downloader import Downloader
from deployments.ingress.routes import ingress_offer
from deployments.ingress.tokens import Tokens, app_id_of
from deployments.ingress.web import web_app
from deployments.models import ModelText
from deployments.routing import CurrentRouting
from deployments.settings import Settings
from deployments.tasks import Supervisor
from pipeline.accounts import Account, Accounts, Role
from pipeline.anonymous import ensure_anonymous
from pipeline.passwords import Passwords
from pipeline.store.account_keys import AccountKeys
from pipeline.store.accounts import RedisAccounts
from pipeline.store.connection import connect_impatient

PASSWORD = "correct horse battery"
KEY = generate_private_key(public_exponent=65537, key_size=2048)
TOKENS = Tokens(KEY, lifetime_s=3600)
#: Tokens that were good until a while ago.
EXPIRED = Tokens(KEY, lifetime_s=60, clock=lambda: 1_700_000_000)


@dataclass(frozen=True, kw_only=True)
class IngressApp:
    """One ingress replica."""

    app: ASGIApp
    routes: list[GuardedRoute]
    accounts: Accounts
    #: What callers with a handle reach.
    calls: HandleCalls
    #: What ``user_config`` would be; none of it at first.
    routing: CurrentRouting

    async def user(self, slug: str, *roles: str) -> Account:
        """A new account."""
        draft = await self.accounts.draft(slug=slug, password=PASSWORD, name="", roles=roles or (Role.USER,))
        assert await self.accounts.store.create(draft)
        return draft

    async def admin(self) -> Account:
        return await self.user("boss", Role.ADMIN, Role.USER)

    async def send(
        self, method: str, path: str, body: Any = None, *, as_: Account | str | None = None, **headers: str
    ) -> httpx.Response:
        """A request by an account, or with a token as it is. Not for streams that do not end."""
        if as_ is not None:
            headers["authorization"] = as_ if isinstance(as_, str) else token(as_)
        address = (headers.pop("peer", "192.0.2.1"), 4711)
        transport = httpx.ASGITransport(app=self.app, client=address)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            return await client.request(method, path, json=body, headers=names)

    async def upload(self, content: bytes, *, as_: Account) -> httpx.Response:
        """A file of the account's."""
        transport = httpx.ASGITransport(app=self.app, client=("192.0.2.1", 4711))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.put(
                "/file-svc/upload", files={"file": ("mine.txt", content)}, headers={"authorization": token(as_)}
            )

    async def opens(self, path: str, *, as_: Account | str | None = None, **headers: str) -> int:
        """Status of a GET that may answer with an endless stream: it is left as soon as the headers are there."""
        return await self._status("GET", path, b"", as_=as_, **headers)

    async def begins(self, path: str, body: Any, *, as_: Account) -> int:
        """The same of a POST."""
        return await self._status("POST", path, json.dumps(body).encode(), as_=as_)

    async def _status(
        self, method: str, path: str, body: bytes, *, as_: Account | str | None = None, **headers: str
    ) -> int:
        if as_ is not None:
            headers["authorization"] = as_ if isinstance(as_, str) else token(as_)
        raw_path, _, query = path.partition("?")
        status: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def receive() -> dict[str, Any]:
            if not asked:
                asked.append(True)
                return {"type": "http.request", "body": body, "more_body": False}
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start" and not status.done():
                status.set_result(message["status"])

        asked: list[bool] = []
        scope = {
            "type": "http",
            "method": method,
            "path": raw_path,
            "raw_path": raw_path.encode(),
            "query_string": query.encode(),
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
            "client": ("192.0.2.1", 4711),
            "http_version": "1.1",
            "scheme": "http",
            "server": ("test", 80),
            "root_path": "",
        }
        task = asyncio.ensure_future(self.app(scope, receive, send))  # type: ignore[arg-type]
        await asyncio.wait({task, status}, return_when=asyncio.FIRST_COMPLETED, timeout=10)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        return status.result()


def token(account: Account, tokens: Tokens = TOKENS) -> str:
    host = "unnamed"
    return f"Bearer {tokens.issue(account, app_id=app_id_of(host), app_host=host, device='').encoded}"


@asynccontextmanager
async def ingress_app(
    redis_url: str, *, downloader: Downloader | None = None, **settings: Any
) -> AsyncIterator[IngressApp]:
    """One replica on the store; several of them are replicas of one service."""
    parsed = Settings.parse(
        {
            "redis_url": redis_url,
            "files_url": "memory://ingress-app",
            "models": [{"id": "org/small", "engine": "scripted", "source": "none", "context_tokens": 256}],
            **settings,
        }
    )
    client = connect_impatient(redis_url)
    supervisor = Supervisor()
    accounts = Accounts(
        RedisAccounts(client, AccountKeys(parsed.redis_namespace)),
        Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)),
    )
    texts = {spec.id: ModelText.open(spec, parsed) for spec in parsed.models if not spec.paints}
    files = open_file_store(client, parsed)
    routing = CurrentRouting(parsed)
    anonymous = (
        await ensure_anonymous(accounts, parsed.llm_inference_account)
        if parsed.serves_anonymous(bound_to_loopback=False)
        else None
    )
    offer = ingress_offer(
        parsed,
        client,
        accounts=accounts,
        tokens=TOKENS,
        texts=texts,
        supervisor=supervisor,
        files=files,
        anonymous=anonymous,
        routing=routing,
        downloader=downloader,
    )
    try:
        yield IngressApp(
            app=web_app(offer.routes), routes=offer.routes, accounts=accounts, calls=offer.calls, routing=routing
        )
    finally:
        await supervisor.stop()
        files.close()
        accounts.passwords.close()
        await client.aclose()
