"""Who may do what: what the roles give, and the permits that an admin has saved beside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from deployments.ingress.fresh import Fresh
from deployments.ingress.principal import Principal
from pipeline.accounts import Role
from pipeline.permits import DEFAULT_GRANTS, Permit, PermitTable
from pipeline.store.tables import PermitStore


class Grants:
    """Answers whether a caller has a permission. Admins have every one; whatever nobody has granted, nobody else has."""

    def __init__(self, to_users: Iterable[str] = DEFAULT_GRANTS, permits: PermitStore | None = None) -> None:
        """
        Args:
            to_users: what every registered user may do; ``*`` stands for anything.
            permits: where permits are kept; without it there are none.
        """
        self._patterns = {Role.ADMIN: ("*",), Role.USER: tuple(to_users)}
        self._store = permits
        self._table = Fresh(self._read)

    def by_role(self, roles: Iterable[str], permission: str) -> bool:
        """Whether one of the roles has the permission, permits aside."""
        return any(
            fnmatchcase(permission, pattern)
            for role, patterns in self._patterns.items()
            if role in roles
            for pattern in patterns
        )

    async def allow(self, caller: Principal, permission: str) -> bool:
        """Whether the caller has the permission now: a permit needs no new token. Only who has it by no role costs a look
        at the permits. Raises StoreUnavailable if they cannot be looked at."""
        if self.by_role(caller.roles, permission):
            return True
        table = await self._table.get()
        return table.allows(permission, roles=caller.roles, slug=caller.slug, app_id=caller.app_id)

    async def permits(self) -> Sequence[Permit]:
        """All permits as they are now."""
        return (await self._read()).permits

    async def save(self, permits: Sequence[Permit]) -> list[Permit]:
        """Save permits, all or none, each in place of one with its id, whose age it keeps. Raises TableFull."""
        assert self._store is not None
        known = await self._store.some([permit.id for permit in permits])
        saved = [permit.since(known.get(permit.id, permit)) for permit in permits]
        await self._store.save(saved)
        self._table.forget()
        return saved

    async def _read(self) -> PermitTable:
        return PermitTable(await self._store.all() if self._store else ())
