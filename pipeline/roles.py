"""Roles beyond those an account is made with: who has which, an enroll in the words of 1Backend's clients, and who may say so."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.accounts import Role
from pipeline.errors import Conflict, NotFound

#: Enrolls of one user. The names of all its roles are in each of its tokens, which must fit a header.
MOST_ENROLLS = 32
ROLE_RULE = "owner:role, such as my-service:editor, at most 128 characters"
_ROLE = re.compile(r"(?=.{3,128}\Z)[a-zA-Z0-9_-]+(:[a-zA-Z0-9_-]+){1,4}\Z")
#: Of the service itself: only admins give these.
_OUR_OWN = "user-svc"
_ADMIN = ":admin"


@dataclass(frozen=True, kw_only=True, slots=True)
class NewEnroll:
    """A role that a user is to get."""

    id: str
    user_id: str
    role: str
    #: The app whose tokens have it, or ``ANY_APP``.
    app_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Enroll(NewEnroll):
    """A role that a user has got."""

    #: User id of who gave it.
    created_by: str
    #: Unix seconds.
    created_at: float
    updated_at: float


class UnknownUser(NotFound):
    """There is no such user."""

    def __init__(self, number: int) -> None:
        super().__init__(f"enrolls.{number}.userId: there is no such user")


class IdInUse(Conflict):
    """An enroll's id is that of another one."""

    def __init__(self, number: int) -> None:
        super().__init__(f"enrolls.{number}.id: another enroll has it; delete that one first")


class TooManyEnrolls(Conflict):
    """A user has as many enrolls as there can be."""

    def __init__(self, number: int) -> None:
        super().__init__(f"enrolls.{number}: the user has {MOST_ENROLLS} already, as many as there can be")


def is_role(name: str) -> bool:
    """Whether a user can be enrolled in it."""
    return _ROLE.match(name) is not None


def owns(role: str, *, slug: str, roles: Iterable[str]) -> bool:
    """Whether a caller may give a role and take it back, and see who has it.

    Admins own all. Others own those that begin with their slug, and ``x:...`` if they have ``x:admin`` (contract §7, and the
    published clients' words on enrolls); never those of the service itself.
    """
    held = set(roles)
    if Role.ADMIN in held:
        return True
    if role.startswith(f"{_OUR_OWN}:"):
        return False
    owners = {slug, *(name.removesuffix(_ADMIN) for name in held if name.endswith(_ADMIN))}
    return any(role.startswith(f"{owner}:") for owner in owners)


def enroll_id(user_id: str, role: str, app_id: str) -> str:
    """The id of an enroll that was saved without one: the same enroll again is one enroll."""
    said = json.dumps([user_id, role, app_id])
    return f"enr-{hashlib.sha256(said.encode()).hexdigest()[:32]}"
