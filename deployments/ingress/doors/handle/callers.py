"""Whom a call through a handle acts for. Whoever holds Ray's token is trusted to say it (DESIGN §5); the call may do what that
user may."""

from __future__ import annotations

from deployments.ingress.auth import Permission
from deployments.ingress.grants import Grants
from deployments.ingress.principal import Principal
from deployments.ingress.tokens import app_id_of
from pipeline.accounts import Account, Accounts, is_slug
from pipeline.errors import InvalidField, Shown, Unauthorized, kind_of
from pipeline.service_account import SERVICE_ID, SERVICE_SLUG

#: The app whose permits count; there is only one (contract §7).
_APP_HOST = "unnamed"
_RULE = "the slug or id of a registered user, or nothing for the service's own account"


class Callers:
    """Finds the user a call names."""

    def __init__(self, accounts: Accounts, grants: Grants) -> None:
        self._accounts = accounts
        self._grants = grants

    async def find(self, user: object, permission: Permission) -> Principal:
        """The user with this id or slug, the service account for None.

        Raises:
            InvalidField: there is no such user.
            Unauthorized: the user lacks the permission; an admin gives it by a role or a permit.
            StoreUnavailable: it cannot be told.
        """
        if user is not None and not isinstance(user, str):
            raise InvalidField("user", Shown(kind_of(user)), _RULE)
        account = await self._service_account() if user is None else await self._named(user)
        caller = Principal(
            user_id=account.id,
            slug=account.slug,
            roles=account.roles_in(app_id_of(_APP_HOST)),
            app_id=app_id_of(_APP_HOST),
            device="",
            token_id="",
            expires_at=0,
        )
        if not await self._grants.allow(caller, permission):
            raise Unauthorized(f"user: {account.slug} lacks the permission {permission}")
        return caller

    async def _named(self, user: str) -> Account:
        # The id first: it is the service's word, a slug is a user's choice.
        account = await self._accounts.by_id(user) if 0 < len(user) <= 256 else None
        if account is None and is_slug(user):
            account = await self._accounts.store.by_slug(user)
        if account is None:
            raise InvalidField("user", user, _RULE)
        return account

    async def _service_account(self) -> Account:
        account = await self._accounts.by_id(SERVICE_ID)
        if account is None:
            raise InvalidField(
                "user",
                Shown("nothing"),
                f"the slug or id of a registered user: {SERVICE_SLUG} is somebody's, so there is no account of the service's own",
            )
        return account
