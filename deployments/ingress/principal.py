"""The caller of a request, as its token or ticket says."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from deployments.ingress.tokens import Claims
from pipeline.accounts import Role

#: What the ids of API keys begin with.
API_KEY_ID = "key"


@dataclass(frozen=True, kw_only=True, slots=True)
class Principal(Claims):
    """The caller of a request, with what the token claims. Streams may outlive the token."""

    @property
    def is_admin(self) -> bool:
        return Role.ADMIN in self.roles

    @property
    def is_api_key(self) -> bool:
        """Whether the caller came with an API key, which makes no secret that outlives it: a revoked key must leave
        none behind."""
        return self.token_id.startswith(f"{API_KEY_ID}-")

    @classmethod
    def of(cls, claims: Claims) -> Principal:
        return cls(**asdict(claims))

    def to_record(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_record(cls, record: str) -> Principal:
        fields = json.loads(record)
        return cls(**{**fields, "roles": tuple(fields["roles"])})
