"""Makes the routes of one service: they share a prefix and a gate."""

from __future__ import annotations

from dataclasses import dataclass

from deployments.ingress.auth import Access, Endpoint, Gate, GuardedRoute, Permission
from deployments.ingress.operation import Operation


@dataclass(frozen=True, slots=True)
class RoutesBelow:
    """``route = RoutesBelow("/some-svc", gate)``, then ``route("GET", "/thing", self.get, access, operation)``."""

    prefix: str
    gate: Gate

    def __call__(
        self,
        method: str,
        path: str,
        endpoint: Endpoint,
        access: Permission | Access,
        operation: Operation,
        *,
        ticket: bool = False,
        limited: bool = False,
    ) -> GuardedRoute:
        """As ``GuardedRoute``, whose path is below the prefix."""
        return GuardedRoute(
            method,
            f"{self.prefix}{path}",
            endpoint,
            access=access,
            gate=self.gate,
            operation=operation,
            ticket=ticket,
            limited=limited,
        )
