"""user-svc, enrolls: admins give users roles and take them back (contract §7, and the published clients' enroll calls).

A role opens what permits for it open; its holder has it in the next token, by a login or a refresh. Without a role any more, the
tokens that are out are worthless.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from pydantic import BeforeValidator, Field
from starlette.requests import Request
from starlette.responses import Response

from deployments.ingress.auth import Gate, GuardedRoute, Permission, principal
from deployments.ingress.body import read_json
from deployments.ingress.enroll_svc_operations import DROP, LIST, MAX_NAME, MOST_AT_ONCE, MOST_LISTED, SAVE
from deployments.ingress.fields import Integer, Strings, Text, WireModel, has_controls, json_inside
from deployments.ingress.principal import Principal
from deployments.ingress.revocations import Revocations
from deployments.ingress.routing import RoutesBelow
from deployments.ingress.timestamps import rfc3339
from deployments.ingress.tokens import app_id_of
from pipeline.accounts import Role
from pipeline.errors import InvalidField, NotFound, Shown, Unauthorized
from pipeline.permits import ANY_APP
from pipeline.roles import ROLE_RULE, Enroll, IdInUse, NewEnroll, enroll_id, is_role, owns
from pipeline.store.enrolls import EnrollStore

_NAME_RULE = f"1 to {MAX_NAME} characters without control characters"
_IDS_RULE = f"1 to {MOST_AT_ONCE} ids of enrolls"


class EnrollDraft(WireModel):
    """``contactId``, another way to say who it is for, can name nobody: accounts have no contacts here."""

    id: Text = Field(default="", description="a string")
    role: Text = Field(default="", description=ROLE_RULE)
    user_id: Text = Field(default="", description="the id of a user")
    contact_id: Text = Field(default="", description="nothing: accounts have no contacts")
    app_host: Text = Field(default="", description="the host of an app, or *")

    def check(self, where: str) -> None:
        """Raises InvalidField."""
        if not is_role(self.role):
            raise InvalidField(f"{where}.role", self.role if _is_name(self.role) else _length(self.role), ROLE_RULE)
        if self.role == Role.USER:
            raise InvalidField(f"{where}.role", self.role, "another role: every user has this one")
        if self.contact_id:
            raise InvalidField(f"{where}.contactId", _length(self.contact_id), "nothing: accounts have no contacts")
        if not self.user_id:
            raise InvalidField(f"{where}.userId", Shown("nothing"), "the id of a user")
        for field, value in (("id", self.id), ("userId", self.user_id), ("appHost", self.app_host)):
            if value and not _is_name(value):
                raise InvalidField(f"{where}.{field}", _length(value), _NAME_RULE)


class _Save(WireModel):
    enrolls: Annotated[tuple[EnrollDraft, ...], BeforeValidator(lambda value: json_inside(value, "["))] = Field(
        min_length=1, max_length=MOST_AT_ONCE, description=f"an array of 1 to {MOST_AT_ONCE} enrolls"
    )


class _Which(WireModel):
    role: Text = Field(default="", description=ROLE_RULE)
    user_id: Text = Field(default="", description="the id of a user")
    contact_id: Text = Field(default="", description="a string")
    after: Text = Field(default="", description="the id of an enroll")
    limit: Annotated[Integer, Field(ge=1, le=MOST_LISTED, description=f"an integer from 1 to {MOST_LISTED}")] = (
        MOST_LISTED
    )


class _Drop(WireModel):
    ids: Strings = Field(default=(), description=_IDS_RULE)


class EnrollSvc:
    """Saves, lists and deletes enrolls."""

    def __init__(self, enrolls: EnrollStore, revocations: Revocations, *, max_body_bytes: int) -> None:
        self._enrolls = enrolls
        self._revocations = revocations
        self._max_body_bytes = max_body_bytes

    def routes(self, gate: Gate) -> list[GuardedRoute]:
        route = RoutesBelow("/user-svc", gate)
        return [
            route("PUT", "/enrolls", self.save, Permission.ENROLL_EDIT, SAVE),
            route("POST", "/enrolls", self.list, Permission.ENROLL_VIEW, LIST),
            route("DELETE", "/enrolls", self.drop, Permission.ENROLL_EDIT, DROP),
        ]

    async def save(self, request: Request) -> Response:
        """Give users roles, all or none. The same again is the same enroll. They have them from their next token on.

        Without `appHost` a role is good in the app of whoever gives it, `*` is every app. An admin may give any role; who has
        only the permission may give those that begin with an own slug, or `x:…` with `x:admin`.
        """
        body = _Save.parse(await read_json(request, max_bytes=self._max_body_bytes))
        caller = principal(request)
        for number, draft in enumerate(body.enrolls):
            draft.check(f"enrolls.{number}")
            if not _owns(caller, draft.role):
                raise Unauthorized
        enrolls = [_new(draft, caller.app_id) for draft in body.enrolls]
        _check_ids(enrolls)
        return _json([enroll_object(enroll) for enroll in await self._enrolls.keep(enrolls, by=caller.user_id)])

    async def list(self, request: Request) -> Response:
        """Enrolls of a user, in a role, or both, in the order of their ids.

        One of `role` and `userId` must be there. `limit` and `after`, the id of the last one seen, make pages.
        """
        which = _Which.parse(await read_json(request, max_bytes=self._max_body_bytes))
        if not (which.role or which.user_id or which.contact_id):
            raise InvalidField("role", Shown("nothing"), f"{ROLE_RULE}; or a userId")
        for field, value in (("role", which.role), ("userId", which.user_id), ("after", which.after)):
            if value and not _is_name(value):
                raise InvalidField(field, _length(value), _NAME_RULE)
        caller = principal(request)
        found = [] if which.contact_id else await self._found(which)
        return _json([enroll_object(enroll) for enroll in found if _owns(caller, enroll.role)])

    async def _found(self, which: _Which) -> Sequence[Enroll]:
        if not which.user_id:
            return await self._enrolls.in_role(which.role, after=which.after, limit=which.limit)
        of_user = await self._enrolls.of_user(which.user_id)
        return [e for e in of_user if which.role in ("", e.role) and e.id > which.after][: which.limit]

    async def drop(self, request: Request) -> Response:
        """Take roles back, all or none. Tokens of whoever loses one are worthless within two seconds."""
        ids = _Drop.parse(await read_json(request, max_bytes=self._max_body_bytes)).ids
        if not 1 <= len(ids) <= MOST_AT_ONCE or not all(_is_name(enroll_id) for enroll_id in ids):
            raise InvalidField("ids", Shown(f"{len(ids)} strings"), _IDS_RULE)
        caller = principal(request)
        known = await self._enrolls.some(ids)
        # Others' are like those that are not there.
        if len(known) < len(ids) or not all(_owns(caller, enroll.role) for enroll in known):
            raise NotFound
        if not await self._enrolls.drop(ids):
            raise NotFound
        for enroll in known:
            self._revocations.forget(enroll.user_id)
        return Response(b"{}", media_type="application/json")


def enroll_object(enroll: Enroll) -> dict[str, Any]:
    """The Enroll object."""
    return {
        "id": enroll.id,
        "appId": enroll.app_id,
        "role": enroll.role,
        "userId": enroll.user_id,
        "createdBy": enroll.created_by,
        "createdAt": rfc3339(enroll.created_at),
        "updatedAt": rfc3339(enroll.updated_at),
    }


def _new(draft: EnrollDraft, own_app: str) -> NewEnroll:
    app_id = own_app if not draft.app_host else ANY_APP if draft.app_host == ANY_APP else app_id_of(draft.app_host)
    return NewEnroll(
        id=draft.id or enroll_id(draft.user_id, draft.role, app_id),
        user_id=draft.user_id,
        role=draft.role,
        app_id=app_id,
    )


def _check_ids(enrolls: Sequence[NewEnroll]) -> None:
    """Raises IdInUse if two different ones have the same id."""
    known: dict[str, NewEnroll] = {}
    for number, enroll in enumerate(enrolls):
        if known.setdefault(enroll.id, enroll) != enroll:
            raise IdInUse(number)


def _owns(caller: Principal, role: str) -> bool:
    return owns(role, slug=caller.slug, roles=caller.roles)


def _is_name(name: str) -> bool:
    return 0 < len(name) <= MAX_NAME and not has_controls(name)


def _length(text: str) -> Shown:
    return Shown(f"{len(text)} characters" if text else "nothing")


def _json(enrolls: Sequence[Any]) -> Response:
    return Response(orjson.dumps({"enrolls": enrolls}), media_type="application/json")
