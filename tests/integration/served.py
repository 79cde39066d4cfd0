"""An ASGI app over HTTP, in the test's own event loop: for clients that stream, hang up, or are no tests of ours."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import ASGIApp

from tests.waiting import until_true


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[str]:
    """Serve it on loopback; gives the URL."""
    config = uvicorn.Config(app, log_level="warning", lifespan="off", ws="none", timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)

    async def has_started() -> bool:
        return server.started

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        serving = asyncio.ensure_future(server.serve(sockets=[listening]))
        await until_true(has_started, what="the server's start")
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving
