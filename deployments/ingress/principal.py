"""The caller of a request, as its token or ticket says."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from deployments.ingress.tokens import Claims
from pipeline.accounts import Role


@dataclass(frozen=True, kw_only=True, slots=True)
class Principal:
    """The caller of a request."""

    user_id: str
    slug: str
    roles: tuple[str, ...]
    app_id: str
    device: str
    token_id: str
    #: Unix seconds after which the token is no longer good; streams may outlive it.
    expires_at: int
    #: Host of the app that the token was made for; empty in tokens of older versions.
    app_host: str = ""

    @property
    def is_admin(self) -> bool:
        return Role.ADMIN in self.roles

    @classmethod
    def of(cls, claims: Claims) -> Principal:
        return cls(
            user_id=claims.user_id,
            slug=claims.slug,
            roles=claims.roles,
            app_id=claims.app_id,
            device=claims.device,
            token_id=claims.token_id,
            expires_at=claims.expires_at,
            app_host=claims.app_host,
        )

    def to_record(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_record(cls, record: str) -> Principal:
        fields = json.loads(record)
        return cls(**{**fields, "roles": tuple(fields["roles"])})
