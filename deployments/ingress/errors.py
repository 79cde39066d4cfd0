"""Every error leaves with the right status, as ``{"error": "..."}`` (contract §0.3) or in the shape of the door it came through;
nothing else does."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence

from redis import exceptions as redis_errors
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.ingress.doors.door import Door, door_of
from pipeline.errors import PromptSvcError, ServerError, StoreUnavailable, describe

logger = logging.getLogger(__name__)

#: The store is away, starting, read-only, or full: the same request may succeed later, and nothing was written.
_STORE_AWAY = (
    redis_errors.ConnectionError,
    redis_errors.TimeoutError,
    redis_errors.ReadOnlyError,
    redis_errors.OutOfMemoryError,
    redis_errors.ClusterDownError,
    redis_errors.TryAgainError,
)


class ErrorBoundary:
    """Turns whatever the app raises into the reply of the contract."""

    def __init__(self, app: ASGIApp, doors: Sequence[Door] = ()) -> None:
        self._app = app
        self._doors = doors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except ClientDisconnect:
            return  # nobody is there to be answered
        except Exception as error:
            if started:
                # Too late for a status. The server cuts the connection, so that nobody takes the reply for a whole one.
                logger.error("%s %s broke off: %s", scope["method"], _route_of(scope), describe(error))
                raise BrokenOff(type(error).__name__) from None
            await self._reply(scope, error)(scope, receive, send)

    def _reply(self, scope: Scope, error: Exception) -> Response:
        if isinstance(error, _STORE_AWAY):
            logger.warning("%s %s: store: %s", scope["method"], _route_of(scope), type(error).__name__)
            error = StoreUnavailable()
        elif not isinstance(error, PromptSvcError | HTTPException):
            logger.error("%s %s failed: %s", scope["method"], _route_of(scope), describe(error))
            error = ServerError()
        elif isinstance(error, PromptSvcError) and error.status >= 500 and not isinstance(error, StoreUnavailable):
            logger.error("%s %s: %s", scope["method"], _route_of(scope), error.message)
        return reply_for(self._doors, scope["path"], error)


class BrokenOff(Exception):
    """A reply ended before it was whole."""


class HttpExceptions:
    """Handler for Starlette's own 404 and 405, in place of its plain text."""

    def __init__(self, doors: Sequence[Door] = ()) -> None:
        self._doors = doors

    async def __call__(self, request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        answer = reply_for(self._doors, request.scope["path"], error)
        if error.status_code == 405:
            answer.headers["Allow"] = ", ".join(_methods_of_path(request))
        return answer


def _methods_of_path(request: Request) -> list[str]:
    """The methods of every route on the path; Starlette names those of the first one only."""
    matching = (route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE)
    return sorted({method for route in matching for method in route.methods})


def reply_for(doors: Sequence[Door], path: str, error: PromptSvcError | HTTPException) -> Response:
    """The reply for an error on a path, in the shape of its door."""
    door = door_of(doors, path)
    return error_response(error) if door is None else door.error_reply(error)


def error_response(error: PromptSvcError | HTTPException) -> Response:
    """The reply for an error that a client may see."""
    if isinstance(error, HTTPException):
        return error_body(error.status_code, error.detail, error.headers)
    headers: dict[str, str] = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return error_body(error.status, error.message, headers)


def error_body(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """``{"error": "<first line of message>"}``."""
    first_line = (message.splitlines() or [""])[0]
    content = json.dumps({"error": first_line}, ensure_ascii=False).encode("utf-8", "replace")
    return Response(content, status, headers, media_type="application/json")


def _route_of(scope: Scope) -> str:
    """The route's pattern; the path itself may hold ids that a client chose."""
    return getattr(scope.get("route"), "path", "(no route)")
