"""The ingress: a stateless Serve deployment around one Starlette application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from ray import serve
from ray.serve._private.constants import RAY_SERVE_ENABLE_HA_PROXY
from ray.serve.context import _get_global_client
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from deployments.files import open_file_store
from deployments.ingress.file_sweep import sweep_regularly
from deployments.ingress.routes import ingress_offer
from deployments.ingress.serve_control import SharedServeControl
from deployments.ingress.signing_key import signing_key
from deployments.ingress.tokens import Tokens
from deployments.ingress.web import web_app
from deployments.models import ModelText
from deployments.routing import CurrentRouting
from deployments.settings import Settings
from deployments.tasks import Supervisor
from pipeline.accounts import Accounts
from pipeline.admin import ensure_admin
from pipeline.anonymous import ensure_anonymous
from pipeline.passwords import Passwords
from pipeline.service_account import ensure_service_account
from pipeline.store.account_keys import AccountKeys
from pipeline.store.accounts import RedisAccounts
from pipeline.store.connection import connect_impatient, verify_store
from pipeline.store.keys import Keys
from pipeline.store.prompts import PromptStore


def _bound_to_loopback() -> bool:
    """Whether only this machine reaches the proxies. HAProxy binds every interface, whatever the options say."""
    host = _get_global_client().http_config.host or ""
    return not RAY_SERVE_ENABLE_HA_PROXY and (host in {"localhost", "::1"} or host.startswith("127."))


@serve.deployment(num_replicas=2, max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0.1})
@serve.ingress()
class Ingress:
    """HTTP or calls through a handle in, store out. It accepts, reads and streams; it never generates, so a closed connection
    stops nothing.

    The methods are for ``serve.get_app_handle``; ``clients.handle`` is the client of them (docs/handles.md). They take and give
    plain JSON values. An error is an answer, ``{"error": {"status", "message", "field"?, "value"?, "allowed"?,
    "retryAfterS"?}}``. ``user`` is the id or slug of the user to act for, None for the service's own account.
    """

    async def __init__(self, settings: Settings, router: DeploymentHandle) -> None:
        # Held for the graph's sake: prompts reach the router through the store, so that they survive it.
        self._router = router
        self._settings = settings
        keys = Keys(settings.redis_namespace)
        self._client = connect_impatient(settings.redis_url.get_secret_value())
        self._supervisor = Supervisor()
        await verify_store(self._client, keys, settings.store_id)
        self._passwords = Passwords()
        accounts = Accounts(RedisAccounts(self._client, AccountKeys(settings.redis_namespace)), self._passwords)
        await ensure_admin(accounts, settings.admin_password.get_secret_value(), bound_to_loopback=_bound_to_loopback())
        anonymous = (
            await ensure_anonymous(accounts, settings.llm_inference_account)
            if settings.serves_anonymous(bound_to_loopback=_bound_to_loopback())
            else None
        )
        await ensure_service_account(accounts)
        tokens = Tokens(
            signing_key(settings.jwt_private_key.get_secret_value(), settings.data_dir),
            lifetime_s=settings.access_token_hours * 3600,
        )
        texts = {
            spec.id: await asyncio.to_thread(ModelText.open, spec, settings)
            for spec in settings.models
            if not spec.paints
        }
        await PromptStore(self._client, keys).adopt_earlier_layout()
        self._routing = CurrentRouting(settings)
        self._files = await asyncio.to_thread(open_file_store, self._client, settings)
        self._supervisor.keep_running(lambda: sweep_regularly(self._files), name="sweep of files")
        self._offer = ingress_offer(
            settings,
            self._client,
            files=self._files,
            accounts=accounts,
            tokens=tokens,
            texts=texts,
            supervisor=self._supervisor,
            anonymous=anonymous,
            serve=SharedServeControl(serve.get_replica_context().app_name, self._supervisor),
            routing=self._routing,
        )

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Called by Serve with the ``user_config`` of this deployment, and whenever it changes (``deployments.routing``)."""
        self._routing.reconfigure(user_config)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Called by Serve once the constructor is through."""
        return web_app(self._offer.routes)

    async def submit(self, body: dict[str, Any], user: str | None = None) -> dict[str, Any]:
        """Accept a prompt, as POST /prompt-svc/prompt does: ``{"prompt", "queuePosition"?, "fileIds"?, "isNew"}``. An id that
        was used before returns what is stored; then ``isNew`` is false."""
        return await self._offer.calls.submit(body, user)

    async def wait(self, prompt_id: str, user: str | None = None, timeout_s: float = 30) -> dict[str, Any]:
        """The prompt once it has ended, or as it is after ``timeout_s`` seconds (0: now; at most ``sync_wait_s`` of the
        settings): ``{"prompt", "queuePosition"?, "fileIds"?, "responseMessage"?}``."""
        return await self._offer.calls.wait(prompt_id, user, timeout_s)

    async def stream(
        self, prompt_id: str, user: str | None = None, after: int = 0
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The answer as it is written (``handle.options(stream=True)``): the entries of the prompt's log behind number ``after``,
        ``{"number", "kind", "choice"?, "text"?, "step"?, "steps"?, "preview"?, "finishReason"?, "error"?, "messageId"?,
        "fileIds"?}``, to the one of kind ``end``."""
        async with aclosing(self._offer.calls.stream(prompt_id, user, after)) as entries:
            async for entry in entries:
                yield entry

    async def cancel(self, prompt_id: str, user: str | None = None) -> dict[str, Any]:
        """Cancel a prompt that has not ended: ``{"status"}`` that it has now. Nothing is erased."""
        return await self._offer.calls.cancel(prompt_id, user)

    async def __del__(self) -> None:
        await self._supervisor.stop()
        self._passwords.close()
        self._files.close()
        await self._client.aclose()
