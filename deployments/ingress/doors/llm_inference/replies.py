"""Replies of the door: text as it is generated, and errors in plain text (contract C.2, C.6)."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from pipeline.errors import PromptSvcError

Work = Callable[[Send], Awaitable[None]]
TEXT = "text/plain; charset=utf-8"


class WhileConnected(Response):
    """A reply that is written by ``work`` as long as the client is there: when it hangs up, the work is cancelled.

    The work sends the start of the reply itself, once it knows the status; until then errors are replies of their own.
    """

    def __init__(self, work: Work) -> None:
        super().__init__()
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        working = asyncio.ensure_future(self._work(send))
        leaving = asyncio.ensure_future(_hang_up(receive))
        try:
            await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            if not working.done():
                working.cancel()
            # Its end is awaited, also where this request is cancelled: what it began is cleaned up by then.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({working, leaving})
        if not working.cancelled():
            working.result()


async def _hang_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def start(status: int, media_type: str = TEXT) -> Message:
    """The beginning of a reply whose length is not known yet."""
    headers = [(b"content-type", media_type.encode()), (b"cache-control", b"no-store"), (b"x-accel-buffering", b"no")]
    return {"type": "http.response.start", "status": status, "headers": headers}


def part(text: str) -> Message:
    """A piece of the body, whole characters."""
    return {"type": "http.response.body", "body": text.encode(), "more_body": True}


END: Message = {"type": "http.response.body", "body": b"", "more_body": False}


def error_reply(error: PromptSvcError | HTTPException) -> Response:
    """One line of text."""
    if isinstance(error, HTTPException):
        return PlainTextResponse(error.detail, error.status_code, error.headers)
    headers: dict[str, str] = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return PlainTextResponse((error.message.splitlines() or [""])[0], error.status, headers)
