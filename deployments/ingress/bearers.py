"""Who holds what a client sends as its bearer: an access token or an API key, the same on every door."""

from __future__ import annotations

from deployments.ingress.api_keys import ApiKeys
from deployments.ingress.principal import Principal
from deployments.ingress.revocations import Revocations
from deployments.ingress.tokens import Tokens
from pipeline.errors import Unauthorized


class Bearers:
    """Tells callers by what they hold, as long as it is good."""

    def __init__(
        self, tokens: Tokens, *, revocations: Revocations | None = None, api_keys: ApiKeys | None = None
    ) -> None:
        """
        Args:
            revocations: without them a token is good until it expires.
            api_keys: without them no API key opens anything.
        """
        self._tokens = tokens
        self._revocations = revocations
        self._api_keys = api_keys

    async def holder(self, bearer: str) -> Principal:
        """Whoever may use it now.

        Raises:
            Unauthorized: it is neither token nor key, or was revoked; TokenExpired if that is all that is wrong with it.
            StoreUnavailable: it cannot be told.
        """
        if self._api_keys is not None and self._api_keys.looks_like_one(bearer):
            return await self._api_keys.holder(bearer)
        caller = Principal.of(self._tokens.verify(bearer))
        await self.check(caller)
        return caller

    async def check(self, caller: Principal) -> None:
        """Whether what a token or key was made into (a ticket, a session) may still be used. Raises as ``holder``."""
        if self._revocations is not None:
            await self._revocations.check(caller)
        if caller.is_api_key:
            if self._api_keys is None:
                raise Unauthorized
            await self._api_keys.check(caller)
