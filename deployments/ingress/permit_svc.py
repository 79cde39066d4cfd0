"""user-svc, permits: an admin gives permissions to roles and users beyond what their role has (contract §7)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any

import orjson
from pydantic import BeforeValidator, Field
from starlette.requests import Request
from starlette.responses import Response

from deployments.ingress.accepted import name_of
from deployments.ingress.auth import Gate, GuardedRoute, Permission, principal
from deployments.ingress.body import read_json
from deployments.ingress.fields import ExactStrings, Strings, Text, WireModel, has_controls, json_inside
from deployments.ingress.grants import Grants
from deployments.ingress.operation import Operation
from deployments.ingress.permit_svc_operations import LISTED, save
from deployments.ingress.routing import RoutesBelow
from deployments.ingress.timestamps import rfc3339
from deployments.ingress.tokens import app_id_of
from pipeline.accounts import is_slug
from pipeline.errors import InvalidField, Shown
from pipeline.permits import ANY_APP, MOST_NAMES, PERMISSION_RULE, Permit, is_permission, permit_id

#: Permits in one request.
MOST_AT_ONCE = 100
_MAX_TEXT = 128
_NAMES_RULE = f"at most {MOST_NAMES} of 1 to {_MAX_TEXT} characters without control characters"

_OURS = frozenset(permission.partition(":")[0] for permission in Permission)
_KNOWN = frozenset(str(permission) for permission in Permission)


class PermitDraft(WireModel):
    """``permission`` and ``permissions`` add up: the published clients know both."""

    id: Text = Field(default="", description="a string")
    permission: Text = Field(default="", description=PERMISSION_RULE)
    permissions: Strings = Field(default=(), description=PERMISSION_RULE)
    roles: Strings = Field(default=(), description="roles")
    slugs: ExactStrings = Field(default=(), description="slugs of users")
    app_host: Text = Field(default="", description="the host of an app, or *")

    def check(self, where: str) -> None:
        """Raises InvalidField."""
        for name in self.names:
            check_permission(f"{where}.permission", name)
        if not self.names:
            raise InvalidField(f"{where}.permission", Shown("nothing"), PERMISSION_RULE)
        for field, names in (("permissions", self.names), ("roles", self.roles), ("slugs", self.slugs)):
            if len(names) > MOST_NAMES or not all(_is_name(name) for name in names):
                raise InvalidField(f"{where}.{field}", Shown(f"{len(names)} strings"), _NAMES_RULE)
        for slug in self.slugs:
            if not is_slug(slug):
                raise InvalidField(f"{where}.slugs", slug, "slugs of users")
        for field, value in (("id", self.id), ("appHost", self.app_host)):
            if value and not _is_name(value):
                raise InvalidField(f"{where}.{field}", Shown(f"{len(value)} characters"), _NAMES_RULE)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*filter(None, (self.permission,)), *self.permissions)))


class _Save(WireModel):
    permits: Annotated[tuple[PermitDraft, ...], BeforeValidator(lambda value: json_inside(value, "["))] = Field(
        min_length=1, max_length=MOST_AT_ONCE, description=f"an array of 1 to {MOST_AT_ONCE} permits"
    )


class PermitFilter(WireModel):
    permission: Text = Field(default="", description="a permission")
    slug: Text = Field(default="", description="the slug of a user")


class PermitSvc:
    """Saves and lists permits."""

    def __init__(self, grants: Grants, *, max_body_bytes: int, clock: Callable[[], float] = time.time) -> None:
        self._grants = grants
        self._max_body_bytes = max_body_bytes
        self._clock = clock

    def routes(self, gate: Gate) -> list[GuardedRoute]:
        route = RoutesBelow("/user-svc", gate)
        saves = save(known=_KNOWN, most=MOST_AT_ONCE, name=name_of(_MAX_TEXT))
        lists = Operation(request=PermitFilter, response=LISTED)
        return [
            route("PUT", "/permits", self.save, Permission.PERMIT_EDIT, saves),
            route("POST", "/permits", self.list, Permission.PERMIT_VIEW, lists),
        ]

    async def save(self, request: Request) -> Response:
        """Save permits, all or none, each in place of one with its id. One for no role and no user takes it back.

        Without ``appHost`` a permit is good in the app of whoever saves it.
        """
        body = _Save.parse(await read_json(request, max_bytes=self._max_body_bytes))
        for number, permit in enumerate(body.permits):
            permit.check(f"permits.{number}")
        caller = principal(request)
        drafts = [self._draft(permit, caller.app_id) for permit in body.permits]
        saved = await self._grants.save(drafts)
        return _json({"permits": [permit_object(permit) for permit in saved if not permit.is_empty]})

    def _draft(self, said: PermitDraft, own_app: str) -> Permit:
        app_id = own_app if not said.app_host else ANY_APP if said.app_host == ANY_APP else app_id_of(said.app_host)
        now = self._clock()
        return Permit(
            id=said.id or permit_id(said.names, said.roles, said.slugs, app_id),
            permissions=said.names,
            roles=said.roles,
            slugs=said.slugs,
            app_id=app_id,
            created_at=now,
            updated_at=now,
        )

    async def list(self, request: Request) -> Response:
        """Permits; those with a permission, those of a user."""
        wanted = PermitFilter.parse(await read_json(request, max_bytes=self._max_body_bytes))
        permits = [
            permit
            for permit in await self._grants.permits()
            if wanted.permission in ("", *permit.permissions) and wanted.slug in ("", *permit.slugs)
        ]
        return _json({"permits": [permit_object(permit) for permit in permits]})


def check_permission(field: str, name: str) -> None:
    """Raises InvalidField unless the name can be granted. Other services may have names of their own; a name of ours that does
    not exist is a slip that would grant nothing."""
    if not is_permission(name):
        raise InvalidField(field, name if len(name) <= _MAX_TEXT else Shown(f"{len(name)} characters"), PERMISSION_RULE)
    service = name.partition(":")[0]
    if service in _OURS and name not in _KNOWN:
        known = sorted(known for known in _KNOWN if known.startswith(f"{service}:"))
        raise InvalidField(field, name, f"one of {', '.join(known)}")


def permit_object(permit: Permit) -> dict[str, Any]:
    """The Permit object. A single permission is also there as ``permission``, as it was before there could be several."""
    single = {"permission": permit.permissions[0]} if len(permit.permissions) == 1 else {}
    return {
        "id": permit.id,
        "appId": permit.app_id,
        **single,
        "permissions": permit.permissions,
        "roles": permit.roles,
        "slugs": permit.slugs,
        "createdAt": rfc3339(permit.created_at),
        "updatedAt": rfc3339(permit.updated_at),
    }


def _is_name(name: str) -> bool:
    return 0 < len(name) <= _MAX_TEXT and not has_controls(name)


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
