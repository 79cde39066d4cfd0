"""Tokens that were good when they were issued and are not any more: the password was changed, a role was taken away, or somebody
asked for it. A token carries the generation of its account's tokens; the account knows which is the present one."""

from __future__ import annotations

from deployments.ingress.fresh import FreshTable
from deployments.ingress.tokens import Claims
from pipeline.accounts import AccountStore
from pipeline.errors import Unauthorized
from pipeline.store.connection import translated_errors

#: How long a replica may rely on what it has read of an account, seconds: a revoked token is good that long at most.
MAX_AGE_S = 2.0
#: Accounts remembered, about 1 KiB each; the one that was not asked for the longest time makes room.
MOST_REMEMBERED = 10_000


class Revocations:
    """Looks at most once in ``MAX_AGE_S`` at each account whose tokens are used."""

    def __init__(self, accounts: AccountStore, *, max_age_s: float = MAX_AGE_S, most: int = MOST_REMEMBERED) -> None:
        self._accounts = accounts
        self._known = FreshTable(self._read, max_age_s=max_age_s, most=most)

    async def check(self, claims: Claims) -> None:
        """
        Raises:
            Unauthorized: the token is one of an earlier generation, or its account is gone.
            StoreUnavailable: it cannot be told.
        """
        present = await self._known.get(claims.user_id)
        if present is None or claims.generation < present:
            raise Unauthorized

    def forget(self, user_id: str) -> None:
        """Something was changed here: the next request looks anew."""
        self._known.forget(user_id)

    async def _read(self, user_id: str) -> int | None:
        with translated_errors():
            return await self._accounts.token_generation(user_id)
