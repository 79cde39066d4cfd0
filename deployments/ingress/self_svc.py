"""user-svc, what callers do with themselves: ask what they may, change their password, get a ticket for a stream."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from deployments.ingress.auth import Access, Gate, GuardedRoute, address_of, principal
from deployments.ingress.body import read_json
from deployments.ingress.fields import PrivateText, WireModel
from deployments.ingress.grants import Grants
from deployments.ingress.revocations import Revocations
from deployments.ingress.routing import RoutesBelow
from deployments.ingress.self_svc_operations import CHANGE_PASSWORD, HAS, STREAM_TICKET
from deployments.ingress.tickets import Tickets
from deployments.ingress.timestamps import rfc3339
from deployments.ingress.user_svc import Missing, user_object
from pipeline.accounts import Accounts
from pipeline.errors import Unauthorized
from pipeline.permits import is_permission
from pipeline.store.tickets import UNUSED_S

#: How long a client may rely on being told that it has, or lacks, a permission that no role of its own decides, seconds.
PERMIT_HOLDS_S = 60
#: Replies with a secret must not stay in a cache.
_SECRET = {"Cache-Control": "no-store"}


class _Passwords(WireModel):
    current_password: PrivateText = Field(default="", description="a string")
    new_password: PrivateText = Field(default="", description="a string")


class SelfSvc:
    """Endpoints for any caller with a token."""

    def __init__(
        self,
        accounts: Accounts,
        grants: Grants,
        tickets: Tickets,
        revocations: Revocations,
        *,
        max_body_bytes: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._accounts = accounts
        self._grants = grants
        self._tickets = tickets
        self._revocations = revocations
        self._max_body_bytes = max_body_bytes
        self._clock = clock

    def routes(self, gate: Gate) -> list[GuardedRoute]:
        route = RoutesBelow("/user-svc", gate)
        return [
            route("POST", "/self/has/{permission}", self.has, Access.AUTHENTICATED, HAS),
            route("POST", "/change-password", self.change_password, Access.AUTHENTICATED, CHANGE_PASSWORD),
            route("POST", "/stream-ticket", self.stream_ticket, Access.AUTHENTICATED, STREAM_TICKET),
        ]

    async def has(self, request: Request) -> Response:
        """Whether the caller has a permission, ours or another service's."""
        await self._body(request)
        caller = principal(request)
        account = await self._accounts.by_id(caller.user_id)
        if account is None or caller.generation < account.token_generation:
            raise Unauthorized
        permission = request.path_params["permission"]
        authorized = is_permission(permission) and await self._grants.allow(caller, permission)
        by_role = authorized and self._grants.by_role(caller.roles, permission)
        until = caller.expires_at if by_role else min(caller.expires_at, self._clock() + PERMIT_HOLDS_S)
        return JSONResponse(
            {
                "app": {"host": caller.app_host, "id": caller.app_id},
                "appId": caller.app_id,
                "authorized": authorized,
                "until": rfc3339(until),
                "user": user_object(account),
            }
        )

    async def change_password(self, request: Request) -> Response:
        """Another password for the caller, who must know the present one. All of the caller's tokens are worthless then, that
        of this request too, on every replica within two seconds: log in anew."""
        passwords = _Passwords.parse(await self._body(request))
        for value, name in ((passwords.current_password, "CurrentPassword"), (passwords.new_password, "NewPassword")):
            if not value:
                raise Missing(name)
        user_id = principal(request).user_id
        await self._accounts.change_password(
            user_id=user_id,
            current=passwords.current_password,
            new=passwords.new_password,
            address=address_of(request) or "",
        )
        self._revocations.forget(user_id)
        return JSONResponse({})

    async def stream_ticket(self, request: Request) -> Response:
        """A ticket for one event stream, to be used as ``?ticket=`` within half a minute."""
        await self._body(request)
        caller = principal(request)
        ticket = await self._tickets.issue(caller)
        expires_at = min(caller.expires_at, self._clock() + UNUSED_S)
        return JSONResponse({"ticket": ticket, "expiresAt": rfc3339(expires_at)}, headers=_SECRET)

    async def _body(self, request: Request) -> dict[str, Any]:
        return await read_json(request, max_bytes=self._max_body_bytes)
