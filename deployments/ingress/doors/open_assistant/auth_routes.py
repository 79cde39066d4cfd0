"""/auth and /account: logging in, tokens, and leaving (contract A.1)."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from deployments.ingress.auth import Access, Gate, GuardedRoute, principal
from deployments.ingress.doors.door import Door
from deployments.ingress.doors.open_assistant.errors import Refused, invalid
from deployments.ingress.doors.open_assistant.replies import json_reply
from deployments.ingress.doors.open_assistant.users import Users, is_of_door, name_of
from deployments.ingress.origin import is_from_another_site
from pipeline.store.chat_trees import ChatTreeStore
from pipeline.store.connection import translated_errors

#: Of replies with a token in them.
_SECRET = {"Cache-Control": "no-store"}


class AuthRoutes:
    def __init__(self, users: Users, chats: ChatTreeStore) -> None:
        self._users = users
        self._chats = chats

    def routes(self, gate: Gate, door: Door) -> list[GuardedRoute]:
        def route(method: str, path: str, endpoint: Any, access: Access, *, limited: bool = False) -> GuardedRoute:
            return GuardedRoute(method, path, endpoint, access=access, gate=gate, door=door, limited=limited)

        return [
            route("GET", "/auth/callback/debug", self.log_in, Access.PUBLIC, limited=True),
            route("GET", "/auth/login/debug", self.begin_login, Access.PUBLIC),
            route("GET", "/auth/providers", self.providers, Access.PUBLIC),
            route("GET", "/auth/refresh", self.refresh, Access.PUBLIC, limited=True),
            route("POST", "/auth/trusted", self.trusted, Access.PUBLIC),
            route("GET", "/auth/check", self.check, Access.AUTHENTICATED),
            route("DELETE", "/account/", self.leave, Access.AUTHENTICATED),
        ]

    async def log_in(self, request: Request) -> Response:
        """Log in under the name ``code``."""
        name = request.query_params.get("code")
        if name is None:
            raise invalid("query", "code", "field required", "value_error.missing")
        _refuse_other_sites(request)
        pair = await self._users.log_in(name)
        return json_reply(
            {
                "access_token": {"access_token": pair.access, "token_type": "bearer"},
                "refresh_token": {"access_token": pair.refresh, "token_type": "refresh"},
            },
            _SECRET,
        )

    async def begin_login(self, request: Request) -> Response:
        """Where a browser begins: it is sent to what logs in."""
        name = request.query_params.get("username")
        if name is None:
            raise invalid("query", "username", "field required", "value_error.missing")
        if not self._users.debug_login:
            raise Refused(403, "Debug auth is not allowed")
        query = {"code": name, "state": request.query_params.get("state", "")}
        return RedirectResponse(f"/auth/callback/debug?{urlencode(query)}", 302, _SECRET)

    async def providers(self, _request: Request) -> Response:
        """The ways to log in."""
        return json_reply(["debug"] if self._users.debug_login else [])

    async def refresh(self, request: Request) -> Response:
        """A new access token for the token in the header ``Refresh``."""
        token = request.headers.get("refresh")
        if not token:
            raise Refused(401, "Missing token")
        return json_reply({"access_token": await self._users.refresh(token), "token_type": "bearer"}, _SECRET)

    async def trusted(self, request: Request) -> Response:
        """The user of the header ``TrustedClient``, who is made if need be."""
        user, account = await self._users.trusted(request)
        return json_reply(
            {
                "id": user.user_id,
                "provider": user.client,
                "provider_account_id": user.provider_account_id,
                "display_name": account.name or user.username,
                "deleted": False,
            }
        )

    async def check(self, request: Request) -> Response:
        """Who one is."""
        return json_reply(name_of(principal(request)))

    async def leave(self, request: Request) -> Response:
        """Remove all the caller's chats, and the account if it is one of the door's."""
        caller = principal(request)
        account = await self._users.account(caller.user_id)
        if account is not None and not is_of_door(account):
            raise Refused(403, "This account was not made here; delete its chats one by one")
        with translated_errors():
            await self._chats.delete_all(caller.user_id)
        if account is not None:
            await self._users.forget(account)
        return Response(status_code=200)


def _refuse_other_sites(request: Request) -> None:
    """A page from elsewhere, open in a browser on the machine of a service that is there for this machine alone, must not get a
    token. Raises Refused."""
    if is_from_another_site(request):
        raise Refused(403, "Debug auth is not allowed from other sites")
