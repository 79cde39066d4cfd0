"""Access tokens that tests of endpoints use: their text is who they are for."""

from __future__ import annotations

from deployments.ingress.tokens import Claims
from pipeline.accounts import Role
from pipeline.errors import Unauthorized

_ROLES = {"admin": (Role.ADMIN, Role.USER), "user": (Role.USER,), "nobody": ()}


class KnownTokens:
    """Good are ``admin``, ``user`` and ``nobody`` (an account without a role); everything else is bad."""

    def verify(self, encoded: str) -> Claims:
        if encoded not in _ROLES:
            raise Unauthorized
        return Claims(
            user_id="usr-1",
            slug="x",
            roles=_ROLES[encoded],
            app_id="a",
            device="",
            token_id="tok-1",
            expires_at=2_000_000_000,
        )
