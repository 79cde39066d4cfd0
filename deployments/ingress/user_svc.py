"""user-svc: log in, register, look at oneself, renew a token, fetch the public key (contract §7)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from deployments.ingress.auth import Access, Gate, GuardedRoute, address_of, principal
from deployments.ingress.body import read_json
from deployments.ingress.fields import ExactText, Private, Text, WireModel
from deployments.ingress.routing import RoutesBelow
from deployments.ingress.timestamps import rfc3339
from deployments.ingress.tokens import IssuedToken, Tokens, app_id_of
from deployments.ingress.user_svc_operations import LOGIN, MAX_HOST, PUBLIC_KEY, REFRESH_TOKEN, REGISTER, SELF
from pipeline.accounts import Account, Accounts
from pipeline.errors import ClientError, InvalidField, Shown, Unauthorized

#: Replies with a token must not stay in a cache.
_SECRET = {"Cache-Control": "no-store"}


class Missing(ClientError):
    """A field is missing."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} missing")


class Credentials(WireModel):
    """The body of login and register; ``contact`` and other ways to log in are not offered."""

    app_host: Text = Field(default="", description="a string")
    slug: ExactText = Field(default="", description="a string")
    password: Annotated[ExactText, Private()] = Field(default="", description="a string")
    name: Text = Field(default="", description="a string")
    device: Text = Field(default="", description="a string")

    def check_present(self) -> None:
        """Raises Missing with the contract's messages."""
        for value, name in ((self.app_host, "AppHost"), (self.slug, "Slug"), (self.password, "Password")):
            if not value:
                raise Missing(name)
        for value, field in ((self.app_host, "appHost"), (self.device, "device")):
            if len(value) > MAX_HOST:
                raise InvalidField(field, Shown(f"{len(value)} characters"), f"at most {MAX_HOST} characters")


class UserSvc:
    """The endpoints of user-svc."""

    def __init__(self, accounts: Accounts, tokens: Tokens, *, max_body_bytes: int) -> None:
        self._accounts = accounts
        self._tokens = tokens
        self._max_body_bytes = max_body_bytes

    def routes(self, gate: Gate) -> list[GuardedRoute]:
        route = RoutesBelow("/user-svc", gate)
        return [
            route("POST", "/login", self.login, Access.PUBLIC, LOGIN),
            route("POST", "/register", self.register, Access.PUBLIC, REGISTER, limited=True),
            route("POST", "/self", self.read_self, Access.AUTHENTICATED, SELF),
            route("POST", "/refresh-token", self.refresh_token, Access.AUTHENTICATED, REFRESH_TOKEN),
            route("GET", "/public-key", self.public_key, Access.PUBLIC, PUBLIC_KEY),
        ]

    async def login(self, request: Request) -> Response:
        """Log in.

        After ten failures for a slug from one address within a minute: 429.
        """
        credentials = await self._credentials(request)
        address = address_of(request) or ""
        account = await self._accounts.login(slug=credentials.slug, password=credentials.password, address=address)
        return self._token(account, credentials.app_host, credentials.device)

    async def register(self, request: Request) -> Response:
        """Create an account and log in."""
        credentials = await self._credentials(request)
        account = await self._accounts.register(
            slug=credentials.slug, password=credentials.password, name=credentials.name
        )
        return self._token(account, credentials.app_host, credentials.device)

    async def read_self(self, request: Request) -> Response:
        """The caller's account, and the roles of the token that asks."""
        # The body has nothing to say (countTokens: tokens are not stored), but a broken one is still refused.
        await read_json(request, max_bytes=self._max_body_bytes)
        account = await self._account(request)
        return JSONResponse(
            {
                "user": user_object(account),
                "roles": list(principal(request).roles),
                "organizations": [],
                "contacts": [],
                "tokenCount": 0,
            }
        )

    async def refresh_token(self, request: Request) -> Response:
        """A new token with the roles the account has now. An expired one is not renewed (SECURITY §2.4), nor an API key."""
        caller = principal(request)
        if caller.is_api_key:
            raise Unauthorized
        return self._token(await self._account(request), caller.app_host, caller.device, app_id=caller.app_id)

    async def public_key(self, _request: Request) -> Response:
        """The key that verifies access tokens."""
        headers = {"Cache-Control": "public, max-age=300"}
        return JSONResponse({"publicKey": self._tokens.public_pem}, headers=headers)

    async def _credentials(self, request: Request) -> Credentials:
        credentials = Credentials.parse(await read_json(request, max_bytes=self._max_body_bytes))
        credentials.check_present()
        return credentials

    async def _account(self, request: Request) -> Account:
        caller = principal(request)
        account = await self._accounts.by_id(caller.user_id)
        # The gate may have looked a moment ago; a token that was revoked since must not get another one.
        if account is None or caller.generation < account.token_generation:
            raise Unauthorized
        return account

    def _token(self, account: Account, app_host: str, device: str, *, app_id: str | None = None) -> Response:
        issued = self._tokens.issue(account, app_id=app_id or app_id_of(app_host), app_host=app_host, device=device)
        return JSONResponse({"token": token_object(issued)}, headers=_SECRET)


def user_object(account: Account) -> dict[str, Any]:
    """The User object."""
    user = {
        "id": account.id,
        "createdAt": rfc3339(account.created_at),
        "updatedAt": rfc3339(account.updated_at),
        "slug": account.slug,
    }
    if account.name:
        user["name"] = account.name
    return user


def token_object(issued: IssuedToken) -> dict[str, Any]:
    """The Token object. Go clients refuse unknown and missing keys in it (contract §0.8)."""
    claims = issued.claims
    return {
        "appId": claims.app_id,
        "createdAt": rfc3339(issued.issued_at),
        "device": claims.device,
        "expiresAt": rfc3339(claims.expires_at),
        "id": claims.token_id,
        "token": issued.encoded,
        "updatedAt": rfc3339(issued.issued_at),
        "userId": claims.user_id,
    }
