"""Headers that every reply carries: CORS as in the contract §0.5, and no guessing of content types."""

from __future__ import annotations

import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: What scripts of other origins may send: the contract's headers, then those that the doors read and the contract does not know.
_ALLOWED = (
    "Accept, Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token, Authorization, X-Content-Encrypted, "
    "Last-Event-ID, Idempotency-Key, TrustedClient, Refresh, OpenAI-Organization, OpenAI-Project, OpenAI-Beta"
)
_ALWAYS = {
    "Access-Control-Allow-Methods": "POST, GET, OPTIONS, PUT, DELETE",
    "Access-Control-Allow-Headers": _ALLOWED,
    "Access-Control-Allow-Credentials": "false",
    # Without this, scripts of other origins see neither when to come back nor which prompt was made.
    "Access-Control-Expose-Headers": "Retry-After, x-prompt-id, x-should-retry, openai-processing-ms",
    "X-Content-Type-Options": "nosniff",
}
_ASKED = "Access-Control-Request-Headers"
_ALLOWED_NAMES = frozenset(name.lower() for name in _ALLOWED.split(", "))
#: Characters that a preflight may ask in; nothing of a longer one is repeated.
_MOST_ASKED = 4096
#: Names repeated. The OpenAI SDK asks for about fifteen.
_MOST_NAMES = 64
#: Narrower than a token of RFC 9110: nobody's headers have its other characters, and a ``*`` would stand for all headers.
_NAME = re.compile(r"[0-9A-Za-z_.-]{1,64}")


class CommonHeaders:
    """Adds the headers, and answers OPTIONS on any path with an empty 200."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        origin = Headers(scope=scope).get("origin", "*")

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_ALWAYS)
                headers["Access-Control-Allow-Origin"] = origin
                headers.add_vary_header("Origin")
                if scope["method"] == "OPTIONS":
                    headers["Access-Control-Allow-Headers"] = _allowed(Headers(scope=scope))
                    headers.add_vary_header(_ASKED)
            await send(message)

        if scope["method"] == "OPTIONS":
            await Response(status_code=200)(scope, receive, add)
        else:
            await self._app(scope, receive, add)


def _allowed(preflight: Headers) -> str:
    """The headers that are always allowed, and those that a preflight asks for.

    Clients bring headers of their own (``X-Stainless-*`` of OpenAI's SDK, new ones with each version). To allow them opens
    nothing: browsers send no credentials by themselves that a page of another origin could make use of.
    """
    asked = ",".join(preflight.getlist(_ASKED))
    if len(asked) > _MOST_ASKED:
        return _ALLOWED
    names = {name.lower(): None for part in asked.split(",") if _NAME.fullmatch(name := part.strip(" \t"))}
    return ", ".join([_ALLOWED, *[name for name in names if name not in _ALLOWED_NAMES][:_MOST_NAMES]])
