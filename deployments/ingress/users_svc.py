"""user-svc, other people's accounts: admins list them, end their tokens, reset passwords (contract §7, its clients' calls)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

import orjson
from pydantic import BeforeValidator, Field
from starlette.requests import Request
from starlette.responses import Response

from deployments.ingress.accepted import Only
from deployments.ingress.auth import Access, Gate, GuardedRoute, Permission, principal
from deployments.ingress.body import read_json
from deployments.ingress.fields import Boolean, ExactText, Integer, Private, Strings, Text, WireModel, has_controls
from deployments.ingress.grants import Grants
from deployments.ingress.operation import NOTHING, TIME, Operation
from deployments.ingress.revocations import Revocations
from deployments.ingress.routing import RoutesBelow
from deployments.ingress.timestamps import rfc3339
from deployments.ingress.user_svc import Missing
from deployments.ingress.users_svc_operations import IDS, LISTED, MAX_ID, MOST_IDS, NO_DEVICE, RESET_PASSWORD, USER_ID
from deployments.ingress.wire import timestamp
from pipeline.accounts import Account, AccountPage, Accounts, Role, is_slug
from pipeline.errors import InvalidField, NotFound, Shown, Unauthorized
from pipeline.query import nanoseconds
from pipeline.store.connection import translated_errors

DEFAULT_LIMIT = 20
MOST_LISTED = 100
_IDS_RULE = f"at most {MOST_IDS} ids of users, each of 1 to {MAX_ID} characters"
_AFTER_RULE = "what an earlier reply said, a time in RFC 3339"


class Direction(StrEnum):
    ASCENDING = "asc"
    DESCENDING = "desc"


class OrderBy(StrEnum):
    CREATED_AT = "createdAt"


def _empty_is_absent(value: object) -> object:
    return None if value == "" else value


class UsersRequest(WireModel):
    """``contactId`` and ``contactIds`` find nobody: accounts have no contacts here."""

    ids: Annotated[Strings, Only(IDS), Field(description=_IDS_RULE)] | None = None
    search: Text = Field(default="", description="the slug or id of a user")
    contact_id: Text = Field(default="", description="a string")
    contact_ids: Annotated[Strings, Field(description="strings")] | None = None
    order_by: Annotated[
        OrderBy | None,
        BeforeValidator(_empty_is_absent),
        Only({"enum": [*OrderBy, "", None]}),
        Field(description="createdAt"),
    ] = None
    order: Annotated[
        Direction | None,
        BeforeValidator(_empty_is_absent),
        Only({"enum": [*Direction, "", None]}),
        Field(description="asc or desc"),
    ] = None
    after_time: Annotated[Text, Only({"anyOf": [TIME, {"const": ""}]}), Field(description=_AFTER_RULE)] = ""
    limit: Annotated[Integer, Field(ge=0, le=MOST_LISTED, description=f"an integer from 1 to {MOST_LISTED}")] = 0
    count: Boolean = Field(default=False, description="true or false")


class RevokeRequest(WireModel):
    """All of a user's tokens are meant, whatever ``all_tokens`` says; some of them cannot be."""

    user_id: Annotated[Text, Only(USER_ID)] = Field(default="", description="the id of a user")
    all_tokens: Boolean = Field(default=True, description="true or false")
    device: Annotated[Text, Only(NO_DEVICE)] = Field(default="", description="a string")


class _NewPassword(WireModel):
    new_password: Annotated[ExactText, Private()] = Field(default="", description="a string")


class UsersSvc:
    """The endpoints about accounts that are not one's own."""

    def __init__(self, accounts: Accounts, grants: Grants, revocations: Revocations, *, max_body_bytes: int) -> None:
        self._rules = accounts
        self._accounts = accounts.store
        self._grants = grants
        self._revocations = revocations
        self._max_body_bytes = max_body_bytes

    def routes(self, gate: Gate) -> list[GuardedRoute]:
        route = RoutesBelow("/user-svc", gate)
        lists = Operation(request=UsersRequest, response=LISTED)
        revokes = Operation(request=RevokeRequest, response=NOTHING, errors=(404,))
        return [
            route("POST", "/users", self.list, Permission.USER_VIEW, lists),
            route("DELETE", "/tokens", self.revoke, Access.AUTHENTICATED, revokes),
            route("POST", "/{user_id}/reset-password", self.reset_password, Permission.USER_EDIT, RESET_PASSWORD),
        ]

    async def list(self, request: Request) -> Response:
        """The accounts, in the order of their registration, the newest first unless `order` is `asc`.

        `after` is in the reply if there are more: send it as `afterTime`. `search` is a slug or an id; `count` asks how many
        there are. Roles are those in the caller's app.
        """
        asked = UsersRequest.parse(await read_json(request, max_bytes=self._max_body_bytes))
        after_us = _microseconds(asked.after_time) if asked.after_time else None
        _check_ids(asked.ids or ())
        with translated_errors():
            chosen = await self._chosen(asked)
            page = await self._page(asked, after_us) if chosen is None else AccountPage(accounts=chosen, after_us=None)
            count = await self._accounts.count() if chosen is None else len(chosen)
        app_id = principal(request).app_id
        answer: dict[str, Any] = {"users": [user_record(account, app_id) for account in page.accounts]}
        if page.after_us is not None:
            answer["after"] = timestamp(page.after_us)
        if asked.count:
            answer["count"] = count
        return _json(answer)

    async def _chosen(self, asked: UsersRequest) -> Sequence[Account] | None:
        """Those that were asked for by name; None if all were."""
        if asked.contact_id or asked.contact_ids is not None:
            return []
        if asked.search:
            found = await self._accounts.by_slug(asked.search) if is_slug(asked.search) else None
            if found is None and _is_id(asked.search):
                found = await self._accounts.by_id(asked.search)
            return [] if found is None or (asked.ids is not None and found.id not in asked.ids) else [found]
        return None if asked.ids is None else await self._accounts.many(list(dict.fromkeys(asked.ids)))

    async def _page(self, asked: UsersRequest, after_us: int | None) -> AccountPage:
        return await self._accounts.page(
            descending=asked.order is not Direction.ASCENDING, after_us=after_us, limit=asked.limit or DEFAULT_LIMIT
        )

    async def revoke(self, request: Request) -> Response:
        """Make all tokens of the caller worthless, the one of this request too; or those of `userId`.

        For somebody else's the caller needs `user-svc:token:revoke`. In force on every replica within two seconds. Tokens are not
        told apart by device: there is no revoking some of them.
        """
        asked = RevokeRequest.parse(await read_json(request, max_bytes=self._max_body_bytes))
        if asked.device:
            raise InvalidField("device", Shown(f"{len(asked.device)} characters"), "nothing: tokens are not told apart")
        caller = principal(request)
        user_id = asked.user_id or caller.user_id
        if user_id != caller.user_id and not await self._grants.allow(caller, Permission.TOKEN_REVOKE):
            raise Unauthorized
        with translated_errors():
            if not _is_id(user_id) or not await self._accounts.revoke_tokens(user_id):
                raise NotFound
        self._revocations.forget(user_id)
        return _json({})

    async def reset_password(self, request: Request) -> Response:
        """Another password for a user who has lost theirs. All of the user's tokens are worthless then.

        An admin's can only be reset by an admin.
        """
        new_password = _NewPassword.parse(await read_json(request, max_bytes=self._max_body_bytes)).new_password
        if not new_password:
            raise Missing("NewPassword")
        caller, user_id = principal(request), request.path_params["user_id"]
        with translated_errors():
            account = await self._accounts.by_id(user_id) if _is_id(user_id) else None
            if account is None:
                raise NotFound
            if _is_admin_somewhere(account) and not caller.is_admin:
                raise Unauthorized
            await self._rules.reset_password(account, new_password)
        self._revocations.forget(account.id)
        return _json({})


def _is_admin_somewhere(account: Account) -> bool:
    return Role.ADMIN in (*account.roles, *(role for role, _ in account.enrolled))


def user_record(account: Account, app_id: str) -> dict[str, Any]:
    """The UserRecord object, which says nothing of passwords."""
    return {
        "id": account.id,
        "slug": account.slug,
        **({"name": account.name} if account.name else {}),
        "roles": list(account.roles_in(app_id)),
        "createdAt": rfc3339(account.created_at),
        "updatedAt": rfc3339(account.updated_at),
    }


def _check_ids(ids: Sequence[str]) -> None:
    if len(ids) > MOST_IDS or not all(_is_id(user_id) for user_id in ids):
        raise InvalidField("ids", Shown(f"{len(ids)} strings"), _IDS_RULE)


def _is_id(text: str) -> bool:
    return 0 < len(text) <= MAX_ID and not has_controls(text)


def _microseconds(time: str) -> int:
    nanos = nanoseconds(time)
    if nanos is None:
        raise InvalidField("afterTime", Shown("another text"), _AFTER_RULE)
    return nanos // 1000


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
