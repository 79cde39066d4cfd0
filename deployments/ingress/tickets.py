"""Stream tickets: browsers' ``EventSource`` cannot send a token in a header, and a token has no place in a URL.

A ticket is a random word that opens one stream, once, within half a minute. What is in a URL ends up in logs, so a ticket that
was used is worth next to nothing: for ten minutes it opens that same stream again, and only for a client that says which event
it saw last, which is how an ``EventSource`` reconnects by itself. It is never good for longer than the token it was made with,
or the API key: whoever redeems one looks whether that was revoked (``Bearers.check``).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from deployments.ingress.principal import Principal
from pipeline.errors import Unauthorized
from pipeline.ids import new_id
from pipeline.store.tickets import TicketStore

#: Name of the parameter in a URL.
PARAMETER = "ticket"
_TICKET = re.compile(r"st-[0-9A-Za-z]{22}\Z")


class Tickets:
    """Issues tickets to callers, and tells who holds one."""

    def __init__(self, store: TicketStore, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    async def issue(self, caller: Principal) -> str:
        """A new ticket for ``caller``. Raises TooManyRequests."""
        ticket = new_id("st")
        await self._store.issue(ticket, user_id=caller.user_id, holder=caller.to_record())
        return ticket

    async def redeem(self, ticket: str, *, stream: str, resumes: bool) -> Principal:
        """Whoever the ticket was issued to.

        Args:
            stream: path of the stream it is to open.
            resumes: whether the client says which event it saw last.

        Raises:
            Unauthorized: it is none (a token, say), not good any more, or good for another stream.
        """
        if not _TICKET.match(ticket):
            raise Unauthorized
        holder = await self._store.redeem(ticket, stream=stream, resumes=resumes)
        if holder is None:
            raise Unauthorized
        caller = Principal.from_record(holder)
        if caller.expires_at <= self._clock():
            raise Unauthorized
        return caller
