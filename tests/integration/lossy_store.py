"""A store behind a connection that breaks when the reply to a script is due: the script has run, whoever made it cannot know."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class LossyStore:
    """Passes bytes on both ways between clients and a store."""

    def __init__(self, host: str, port: int) -> None:
        self._store = (host, port)
        self._next_is_lost = False
        #: Replies that were lost.
        self.lost = 0

    def lose_next_reply(self) -> None:
        self._next_is_lost = True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A client's connection."""
        from_store, to_store = await asyncio.open_connection(*self._store)
        calls_script = False

        async def pass_requests_on() -> None:
            nonlocal calls_script
            while request := await reader.read(1 << 16):
                calls_script = b"EVALSHA" in request
                to_store.write(request)
                await to_store.drain()
            to_store.close()

        requests = asyncio.create_task(pass_requests_on())
        try:
            while reply := await from_store.read(1 << 16):
                # A script that is not known yet has done nothing.
                if self._next_is_lost and calls_script and not reply.startswith(b"-NOSCRIPT"):
                    self._next_is_lost = False
                    self.lost += 1
                    return
                writer.write(reply)
                await writer.drain()
        finally:
            requests.cancel()
            to_store.close()
            writer.close()


@asynccontextmanager
async def lossy_store(redis_url: str) -> AsyncIterator[tuple[LossyStore, str]]:
    """Such a connection to a store, and its URL."""
    parts = urlsplit(redis_url)
    store = LossyStore(parts.hostname or "127.0.0.1", parts.port or 6379)
    server = await asyncio.start_server(store.serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        credentials = parts.netloc.rpartition("@")[0]
        yield store, parts._replace(netloc=f"{credentials}@127.0.0.1:{port}").geturl()
