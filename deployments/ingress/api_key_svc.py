"""user-svc, API keys of one's own: make, list, revoke (contract §10; the published client has these three)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from deployments.ingress.accepted import NO_CONTROLS, Limited, Only, one_or_list
from deployments.ingress.api_key_svc_operations import LIST, MOST_AT_ONCE, create, revoke
from deployments.ingress.api_keys import ApiKeys
from deployments.ingress.auth import Access, Gate, GuardedRoute, principal
from deployments.ingress.body import read_json
from deployments.ingress.fields import Strings, Text, WireModel, has_controls
from deployments.ingress.operation import Operation
from deployments.ingress.principal import Principal
from deployments.ingress.tokens import app_id_of
from deployments.ingress.wire import timestamp
from pipeline.accounts import MAX_NAME
from pipeline.api_keys import ApiKey
from pipeline.errors import Unauthorized

_NAME_RULE = f"a string of at most {MAX_NAME} characters without control characters"
_IDS_RULE = f"ids of API keys: a string, or a list of at most {MOST_AT_ONCE}"
#: The reply with the key must not stay in a cache.
_SECRET = {"Cache-Control": "no-store"}


def _name(value: str) -> str:
    if len(value) > MAX_NAME or has_controls(value):
        raise ValueError(_NAME_RULE)
    return value


def _ids(value: tuple[str, ...]) -> tuple[str, ...]:
    if len(value) > MOST_AT_ONCE:
        raise ValueError(_IDS_RULE)
    return value


class CreateApiKey(WireModel):
    """The body of POST /user-svc/api-key. ``userId``, ``appId`` and ``expiresAt`` are not looked at: a key is its maker's, and
    good in every app until it is revoked."""

    name: Annotated[
        Text,
        AfterValidator(_name),
        Limited(maxLength=MAX_NAME, pattern=NO_CONTROLS),
        Field(description=_NAME_RULE),
    ] = ""


class RevokeApiKeys(WireModel):
    id: Text | None = Field(default=None, description="the id of an API key")
    ids: Annotated[
        Strings,
        AfterValidator(_ids),
        Only(one_or_list({"type": ["string", "number", "boolean"]}, maxItems=MOST_AT_ONCE)),
        Field(description=_IDS_RULE),
    ] = ()


class ApiKeySvc:
    """The endpoints. A key opens none of them: one that got into wrong hands could not be got rid of otherwise."""

    def __init__(self, api_keys: ApiKeys, *, max_body_bytes: int) -> None:
        self._api_keys = api_keys
        self._max_body_bytes = max_body_bytes

    def routes(self, gate: Gate) -> list[GuardedRoute]:
        def route(method: str, path: str, endpoint: Any, operation: Operation) -> GuardedRoute:
            path = f"/user-svc{path}"
            return GuardedRoute(method, path, endpoint, access=Access.AUTHENTICATED, gate=gate, operation=operation)

        return [
            route("POST", "/api-key", self.create, create(CreateApiKey)),
            route("POST", "/api-keys", self.list, LIST),
            route("DELETE", "/api-keys", self.revoke, revoke(RevokeApiKeys)),
        ]

    async def create(self, request: Request) -> Response:
        """A new API key of the caller's. The key itself is shown this once; only a hash of it is kept."""
        caller = _with_token(request)
        asked = CreateApiKey.parse(await self._body(request))
        made, key = await self._api_keys.create(caller.user_id, asked.name)
        return JSONResponse({"apiKey": api_key_object(made), "key": key}, headers=_SECRET)

    async def list(self, request: Request) -> Response:
        """The caller's API keys, newest first."""
        await self._body(request)
        keys = await self._api_keys.of_user(_with_token(request).user_id)
        return JSONResponse({"apiKeys": [api_key_object(key) for key in keys]})

    async def revoke(self, request: Request) -> Response:
        """Revoke API keys of the caller's. They open nothing more: at once here, within two seconds on every replica."""
        caller = _with_token(request)
        asked = RevokeApiKeys.parse(await self._body(request))
        ids = [*([asked.id] if asked.id else []), *asked.ids]
        await self._api_keys.revoke(caller.user_id, list(dict.fromkeys(ids)))
        return JSONResponse({})

    async def _body(self, request: Request) -> dict[str, Any]:
        return await read_json(request, max_bytes=self._max_body_bytes)


def api_key_object(key: ApiKey) -> dict[str, Any]:
    """The ApiKey object, without the key."""
    result: dict[str, Any] = {
        "id": key.id,
        "userId": key.user_id,
        "appId": app_id_of("api-key"),
        "prefix": key.prefix,
        "createdAt": timestamp(key.created_us),
        "updatedAt": timestamp(key.created_us),
    }
    if key.name:
        result["name"] = key.name
    if key.used_us:
        result["lastUsedAt"] = timestamp(key.used_us)
    return result


def _with_token(request: Request) -> Principal:
    caller = principal(request)
    if caller.is_api_key:
        raise Unauthorized
    return caller
