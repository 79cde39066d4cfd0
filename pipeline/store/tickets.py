"""Stream tickets in the store. Only their digests are kept: who reads the store cannot open a stream with what is there."""

from __future__ import annotations

import hashlib
import secrets

from redis.asyncio import Redis

from pipeline.errors import TooManyRequests
from pipeline.store.connection import translated_errors
from pipeline.store.keys import Keys
from pipeline.store.replies import text
from pipeline.store.scripts import Scripts

#: How long a ticket waits to be used, seconds.
UNUSED_S = 30
#: How long after its first use a ticket opens the same stream again, seconds, and how often.
REOPEN_S = 600
MOST_OPENINGS = 100
#: Tickets that one user may have in ``UNUSED_S``.
MOST_PER_USER = 60


class TicketStore:
    """Issues and redeems tickets."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._scripts = Scripts(client, keys.namespace)

    async def issue(self, ticket: str, *, user_id: str, holder: str) -> None:
        """Keep a new ticket for ``UNUSED_S``; ``holder`` comes back when it is redeemed.

        Raises:
            TooManyRequests: the user has had ``MOST_PER_USER`` in that time.
        """
        with translated_errors():
            wait_ms = await self._scripts.run(
                "issue_ticket", _digest(ticket), user_id, holder, UNUSED_S * 1000, MOST_PER_USER
            )
        if wait_ms:
            raise TooManyRequests("Too many stream tickets", retry_after_s=int(wait_ms) / 1000)

    async def redeem(self, ticket: str, *, stream: str, resumes: bool) -> str | None:
        """The holder, if the ticket opens this stream: any stream the first time; later only the same one, for a client that
        says where it was."""
        with translated_errors():
            holder = await self._scripts.run(
                "redeem_ticket",
                _digest(ticket),
                _digest(stream),
                int(resumes),
                REOPEN_S * 1000,
                MOST_OPENINGS,
                secrets.token_hex(8),
            )
        return None if holder is None else text(holder)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
