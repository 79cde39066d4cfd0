"""The service's whole route table without anything behind it, for tests that look at routes and send nothing."""

from __future__ import annotations

from functools import cache
from typing import Any, cast

from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from deployments.ingress.auth import GuardedRoute
from deployments.ingress.routes import route_table
from deployments.ingress.tokens import Tokens
from deployments.settings import Settings
from pipeline.store.connection import connect_impatient
from tests.unit.accounts_in_memory import memory_accounts


class _Idle:
    """A supervisor that starts nothing."""

    def keep_running(self, work: object, *, name: str) -> None: ...


#: What a schema says of them.
CATALOGUE = {
    "models": [{"id": "org/small", "aliases": ["documented"], "engine": "scripted", "source": "none"}],
    "max_user_priority": 2,
}


def own_routes() -> tuple[GuardedRoute, ...]:
    """Those of the service's own API, without the other doors'."""
    return tuple(route for route in routes() if route.door is None)


@cache
def routes() -> tuple[GuardedRoute, ...]:
    settings = Settings.parse({"redis_url": "redis://none.invalid", **CATALOGUE})
    return tuple(
        route_table(
            settings,
            connect_impatient(settings.redis_url.get_secret_value()),
            accounts=memory_accounts(),
            tokens=Tokens(generate_private_key(public_exponent=65537, key_size=2048), lifetime_s=60),
            texts={},
            supervisor=cast(Any, _Idle()),
            files=cast(Any, None),
        )
    )
