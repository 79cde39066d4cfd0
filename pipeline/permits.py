"""Permits: a permission for some roles or users beyond what their role gives them (contract 1backend §7).

A permission is ``service:object:action``; other services may have names of their own, and keep permits for them here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

#: What every registered user may do unless an operator says otherwise; ``*`` stands for anything.
DEFAULT_GRANTS = (
    "prompt-svc:*",
    "chat-svc:*",
    "file-svc:*",
    "model-svc:*:view",
    "firehose-svc:event:stream",
)
#: The app of a permit that is good in every app.
ANY_APP = "*"
#: Permits that can be in force at once, and names in one of them.
MOST_PERMITS = 1000
MOST_NAMES = 100

PERMISSION_RULE = "service:object:action, such as prompt-svc:prompt:create, at most 128 characters"
_PERMISSION = re.compile(r"(?=.{5,128}\Z)[a-zA-Z0-9_-]+(:[a-zA-Z0-9_-]+){1,4}\Z")
_PATTERN = re.compile(r"(?=.{1,128}\Z)[a-zA-Z0-9_*:-]+\Z")


def is_permission(name: str) -> bool:
    return _PERMISSION.match(name) is not None


def is_grant(pattern: str) -> bool:
    """Whether ``pattern`` can be a grant: a permission, or several by ``*``."""
    return _PATTERN.match(pattern) is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Permit:
    """Some permissions for some roles and some users."""

    id: str
    permissions: tuple[str, ...]
    roles: tuple[str, ...] = ()
    #: Users, by slug.
    slugs: tuple[str, ...] = ()
    #: Id of the app whose tokens it is good for, or ``ANY_APP``.
    app_id: str = ANY_APP
    #: Unix seconds.
    created_at: float
    updated_at: float

    @property
    def is_empty(self) -> bool:
        """Whether it is for nobody: so it is taken back."""
        return not self.roles and not self.slugs

    def since(self, first: Permit) -> Permit:
        """This permit in place of ``first``, as old as that."""
        return replace(self, created_at=first.created_at)

    def to_record(self) -> str:
        return json.dumps(
            {
                "permissions": self.permissions,
                "roles": self.roles,
                "slugs": self.slugs,
                "app_id": self.app_id,
                "created_at": self.created_at,
                "updated_at": self.updated_at,
            }
        )

    @classmethod
    def from_record(cls, permit_id: str, record: str) -> Permit:
        fields = json.loads(record)
        return cls(
            id=permit_id,
            permissions=tuple(fields["permissions"]),
            roles=tuple(fields["roles"]),
            slugs=tuple(fields["slugs"]),
            app_id=fields["app_id"],
            created_at=fields["created_at"],
            updated_at=fields["updated_at"],
        )


def permit_id(permissions: Iterable[str], roles: Iterable[str], slugs: Iterable[str], app_id: str) -> str:
    """The id of a permit that was saved without one: the same permit again is one permit, another one replaces none."""
    said = json.dumps([sorted(permissions), sorted(roles), sorted(slugs), app_id])
    return f"perm-{hashlib.sha256(said.encode()).hexdigest()[:32]}"


class PermitTable:
    """The permits in force at one moment, by permission."""

    def __init__(self, permits: Iterable[Permit]) -> None:
        self.permits = tuple(permits)
        self._by_permission: dict[str, list[Permit]] = {}
        for permit in self.permits:
            for permission in permit.permissions:
                self._by_permission.setdefault(permission, []).append(permit)

    def allows(self, permission: str, *, roles: Iterable[str], slug: str, app_id: str) -> bool:
        """Whether a permit gives the permission to a user, or to one of the user's roles."""
        held = set(roles)
        return any(
            permit.app_id in (ANY_APP, app_id) and (slug in permit.slugs or not held.isdisjoint(permit.roles))
            for permit in self._by_permission.get(permission, ())
        )
