"""Who calls, and whether they may: principals, permissions, and routes that cannot be written without saying which."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.ingress.operation import Operation
from deployments.ingress.tokens import Tokens
from pipeline.accounts import Role
from pipeline.errors import NotFound, Unauthorized


class Permission(StrEnum):
    """Names of the document, section Permissions & Security, and of the contract §4."""

    PROMPT_CREATE = "prompt-svc:prompt:create"
    PROMPT_VIEW = "prompt-svc:prompt:view"
    PROMPT_DELETE = "prompt-svc:prompt:delete"
    PROMPT_STREAM = "prompt-svc:prompt:stream"
    MODEL_VIEW = "model-svc:model:view"


class Access(StrEnum):
    """What a route can ask for instead of a permission."""

    #: Anyone, without a token.
    PUBLIC = "public"
    #: Any valid token.
    AUTHENTICATED = "authenticated"


#: Permissions by role. The document lets every user prompt; upstream's code does so only after a permit (contract §0.4).
GRANTS: dict[str, frozenset[Permission]] = {
    Role.ADMIN: frozenset(Permission),
    Role.USER: frozenset(Permission),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Principal:
    """The caller of a request."""

    user_id: str
    slug: str
    roles: tuple[str, ...]
    app_id: str
    device: str
    token_id: str
    #: Unix seconds after which the token is no longer good; streams may outlive it.
    expires_at: int

    @property
    def is_admin(self) -> bool:
        return Role.ADMIN in self.roles

    def may(self, permission: Permission) -> bool:
        return any(permission in GRANTS.get(role, frozenset()) for role in self.roles)


class Gate:
    """Admits requests by their access token."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def require(self, request: Request, access: Permission | Access) -> Principal | None:
        """The caller if it may do this; None only for PUBLIC, whose callers are not looked at.

        Raises:
            Unauthorized: no token, a bad one, or one whose roles do not grant the permission. The contract knows no 403.
        """
        if access is Access.PUBLIC:
            return None
        principal = self.identify(request)
        if isinstance(access, Permission) and not principal.may(access):
            raise Unauthorized
        return principal

    def identify(self, request: Request) -> Principal:
        """The caller. The token is read from the header alone: URLs end up in logs. Raises Unauthorized."""
        headers = request.headers.getlist("authorization")
        if len(headers) != 1:
            raise Unauthorized
        claims = self._tokens.verify(_bearer(headers[0]))
        return Principal(
            user_id=claims.user_id,
            slug=claims.slug,
            roles=claims.roles,
            app_id=claims.app_id,
            device=claims.device,
            token_id=claims.token_id,
            expires_at=claims.expires_at,
        )


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
    ) -> None:
        self.method = method
        self.access = access
        #: The endpoint itself; ``endpoint`` is Starlette's name for what guards it.
        self.handler = endpoint
        self.operation = operation

        async def guarded(request: Request) -> Response:
            request.state.principal = gate.require(request, access)
            request.scope["path_params"] = {name: _decoded(value) for name, value in request.path_params.items()}
            return await endpoint(request)

        super().__init__(path, guarded, methods=[method], name=f"{method} {path}")


def principal(request: Request) -> Principal:
    """Whoever sent a request to a route that is not PUBLIC."""
    found: Principal | None = request.state.principal
    if found is None:
        raise Unauthorized
    return found


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
            scope = {**scope, "path": raw.decode("latin-1")}
        await self._app(scope, receive, send)


def _decoded(segment: str) -> str:
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError:
        raise NotFound from None
