"""firehose-svc: what happens to the caller's prompts and chats, as a stream of events (contract §1.6, §3)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from deployments.ingress.auth import Access, Gate, GuardedRoute
from deployments.ingress.events import UserEvents
from deployments.ingress.firehose_svc_operations import SUBSCRIBE


class FirehoseSvc:
    """The endpoint of firehose-svc."""

    def __init__(self, events: UserEvents) -> None:
        self._events = events

    def routes(self, gate: Gate) -> list[GuardedRoute]:
        path = "/firehose-svc/events/subscribe"
        return [
            GuardedRoute(
                "GET",
                path,
                self.subscribe,
                access=Access.AUTHENTICATED,
                gate=gate,
                operation=SUBSCRIBE,
                ticket=True,
            )
        ]

    async def subscribe(self, request: Request) -> Response:
        """All of the caller's events, of whichever service, as the original's firehose shows all that are published."""
        return await self._events.reply(request)
