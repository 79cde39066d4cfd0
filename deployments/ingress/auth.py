"""Who may use a route: permissions, the gate in front, and routes that cannot be written without saying which they ask for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from enum import StrEnum
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.ingress.bearers import Bearers
from deployments.ingress.client_address import client_address
from deployments.ingress.doors.door import Door
from deployments.ingress.grants import Grants
from deployments.ingress.operation import Operation
from deployments.ingress.policies import Policies
from deployments.ingress.principal import Principal
from deployments.ingress.tickets import PARAMETER, Tickets
from pipeline.errors import Denied, NotFound, Unauthorized
from pipeline.policy import Call


class Permission(StrEnum):
    """Every permission that a route, or one use of it, asks for: names of the document, section
    Permissions & Security, and of the contract.

    Admins have them all. What every registered user has is said by patterns (``pipeline.permits.DEFAULT_GRANTS``), so a new
    member is one line here; it is for admins alone unless a pattern matches it.
    """

    PROMPT_CREATE = "prompt-svc:prompt:create"
    PROMPT_VIEW = "prompt-svc:prompt:view"
    PROMPT_DELETE = "prompt-svc:prompt:delete"
    PROMPT_STREAM = "prompt-svc:prompt:stream"
    TEMPLATE_EDIT = "prompt-svc:template:edit"
    TEMPLATE_VIEW = "prompt-svc:template:view"
    THREAD_VIEW = "chat-svc:thread:view"
    THREAD_EDIT = "chat-svc:thread:edit"
    THREAD_DELETE = "chat-svc:thread:delete"
    MESSAGE_CREATE = "chat-svc:message:create"
    MESSAGE_VIEW = "chat-svc:message:view"
    MESSAGE_DELETE = "chat-svc:message:delete"
    MODEL_VIEW = "model-svc:model:view"
    MODEL_CREATE = "model-svc:model:create"
    MODEL_EDIT = "model-svc:model:edit"
    PLATFORM_VIEW = "model-svc:platform:view"
    FILE_UPLOAD_CREATE = "file-svc:upload:create"
    FILE_UPLOAD_VIEW = "file-svc:upload:view"
    FILE_UPLOAD_DELETE = "file-svc:upload:delete"
    FILE_DOWNLOAD_CREATE = "file-svc:download:create"
    FILE_DOWNLOAD_VIEW = "file-svc:download:view"
    PERMIT_EDIT = "user-svc:permit:edit"
    PERMIT_VIEW = "user-svc:permit:view"
    ENROLL_EDIT = "user-svc:enroll:edit"
    ENROLL_VIEW = "user-svc:enroll:view"
    USER_VIEW = "user-svc:user:view"
    USER_EDIT = "user-svc:user:edit"
    #: Of somebody else's tokens; one's own need none.
    TOKEN_REVOKE = "user-svc:token:revoke"
    POLICY_INSTANCE_EDIT = "policy-svc:instance:edit"
    POLICY_INSTANCE_VIEW = "policy-svc:instance:view"
    POLICY_CHECK = "policy-svc:check:view"


class Access(StrEnum):
    """What a route can ask for instead of a permission."""

    #: Anyone, without a token.
    PUBLIC = "public"
    #: Any valid token.
    AUTHENTICATED = "authenticated"


class Gate:
    """Admits requests: by their access token or ticket, by permission, and as policies allow."""

    def __init__(
        self,
        bearers: Bearers,
        *,
        grants: Grants | None = None,
        tickets: Tickets | None = None,
        policies: Policies | None = None,
        trusted_proxies: int = 0,
    ) -> None:
        """
        Args:
            grants: who may do what; without them what roles give by default.
            tickets: without them no ticket opens anything.
            policies: without them nothing is limited.
            trusted_proxies: as in ``client_address``.
        """
        self._bearers = bearers
        self._grants = grants or Grants()
        self._tickets = tickets
        self._policies = policies
        self._trusted_proxies = trusted_proxies

    async def admit(self, request: Request, route: GuardedRoute) -> Principal | None:
        """The caller if it may use the route now; None only where the route is PUBLIC, whose callers are not looked at.

        Raises:
            Unauthorized: no token, a bad or revoked one, or a policy that blocks the address; Denied if the caller lacks the
                permission. The contract knows no 403: both are a 401 there.
            TooManyRequests: a policy allows no more for now.
            StoreUnavailable: it cannot be told.
        """
        caller = None if route.access is Access.PUBLIC else await self._identify(request, route)
        if isinstance(route.access, Permission) and not (caller and await self._grants.allow(caller, route.access)):
            raise Denied
        if route.limited and self._policies is not None:
            await self._policies.enforce(
                Call(endpoint=route.path, ip=address_of(request), user_id=caller.user_id if caller else None)
            )
        return caller

    def locate(self, request: Request) -> str | None:
        """Where a request comes from, as far as the service believes it."""
        return client_address(request, trusted_proxies=self._trusted_proxies)

    async def _identify(self, request: Request, route: GuardedRoute) -> Principal:
        """The caller. Raises Unauthorized, StoreUnavailable."""
        if route.door is not None and route.door.identify is not None:
            return await route.door.identify(request)
        # A token is read from the header alone: URLs end up in logs.
        headers = request.headers.getlist("authorization")
        tickets = request.query_params.getlist(PARAMETER)
        if not headers and len(tickets) == 1 and route.opened_by_ticket and request.method == "GET" and self._tickets:
            resumes = bool(request.headers.get("last-event-id"))
            caller = await self._tickets.redeem(tickets[0], stream=request.scope["path"], resumes=resumes)
            # A ticket is as good as the token or key that it was made with.
            await self._bearers.check(caller)
            return caller
        if len(headers) != 1:
            raise Unauthorized
        return await self._bearers.holder(_bearer(headers[0]))


def _bearer(header: str) -> str:
    """The token of ``Bearer <token>``, or of the token alone, which the published clients send (contract §0.4)."""
    scheme, _, rest = header.strip().partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else header.strip()


Endpoint = Callable[[Request], Awaitable[Response]]


class GuardedRoute(Route):
    """A route that says who may use it, and what it is for. The caller is ``principal(request)`` in the endpoint."""

    def __init__(
        self,
        method: str,
        path: str,
        endpoint: Endpoint,
        *,
        access: Permission | Access,
        gate: Gate,
        operation: Operation | None = None,
        ticket: bool = False,
        limited: bool = False,
        door: Door | None = None,
    ) -> None:
        """
        Args:
            operation: what the OpenAPI document says of it; the other doors' routes are not in it, they have documents elsewhere.
            ticket: a stream ticket in the URL opens it as well; for GET routes that answer with an event stream.
            limited: policies are held against its callers.
            door: the public API it belongs to, None for the service's own.
        """
        self.method = method
        self.access = access
        #: The endpoint itself; ``endpoint`` is Starlette's name for what guards it.
        self.handler = endpoint
        self.operation = operation
        self.opened_by_ticket = ticket
        self.limited = limited
        self.door = door

        async def guarded(request: Request) -> Response:
            request.state.address = gate.locate(request)
            request.state.principal = await gate.admit(request, self)
            request.scope["path_params"] = {name: _decoded(value) for name, value in request.path_params.items()}
            return await endpoint(request)

        super().__init__(path, guarded, methods=[method], name=f"{method} {path}")


def principal(request: Request) -> Principal:
    """Whoever sent a request to a route that is not PUBLIC."""
    found: Principal | None = request.state.principal
    if found is None:
        raise Unauthorized
    return found


def address_of(request: Request) -> str | None:
    """Where a request to any route comes from (``client_address``); None if that is not known."""
    address: str | None = request.state.address
    return address


def unguarded(routes: Iterable[BaseRoute]) -> list[BaseRoute]:
    """Routes that do not say who may use them: there must be none."""
    return [route for route in routes if not isinstance(route, GuardedRoute)]


class RawPath:
    """Matches routes on the path as it was sent, so that ``%2F`` in an id does not end its segment (contract §0.7)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = scope.get("raw_path")
        if scope["type"] == "http" and raw:
            # In place: what routing adds to a copy, those in front (``ErrorBoundary``) would not see.
            scope["path"] = raw.decode("latin-1")
        await self._app(scope, receive, send)


def _decoded(segment: str) -> str:
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError:
        raise NotFound from None
