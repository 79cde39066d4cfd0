"""Replies of the door: JSON, errors, and replies that say when they are out."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from deployments.ingress.doors.door import Door
from pipeline.errors import PromptSvcError

#: Everything below it belongs to the door.
BASE = "/Monolith/api"
_HEADERS = {"Cache-Control": "private, no-store"}


def json_reply(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, _HEADERS, media_type="application/json")


class ToldReply(Response):
    """A reply that has ``when_out`` done once the server has taken all of it. Not if the client has gone before."""

    def __init__(self, value: Any, when_out: Callable[[], Awaitable[None]]) -> None:
        super().__init__(orjson.dumps(value), 200, _HEADERS, media_type="application/json")
        self._when_out = when_out

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__(scope, receive, send)
        # Waited for, so that a replica which stops in good order does not stop before.
        await self._when_out()


def error_reply(error: PromptSvcError | HTTPException) -> Response:
    """``{"errorMessage": …, "errorType"?: …}``."""
    if isinstance(error, HTTPException):
        return json_reply({"errorMessage": error.detail}, error.status_code)
    if error.status == 401:
        # Never a WWW-Authenticate: a browser that has asked for a password sends it along with forged requests.
        return json_reply({"errorMessage": "User session is invalid"}, 401)
    body: dict[str, Any] = {"errorMessage": error.message}
    if isinstance(error, TypedError):
        body["errorType"] = error.error_type
    elif error.status == 500:
        body |= {"errorType": "unknown", "message": error.message}
    reply = json_reply(body, error.status)
    if error.retry_after_s is not None:
        reply.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if error.status == 403:
        reply.headers["X-CSRF-Token"] = "Required"
    return reply


class TypedError(PromptSvcError):
    """An error that clients know by its type."""

    status = 400
    error_type = ""


class ExpressionNotFound(TypedError):
    """Must pass in 'expression' key containing the pixel to execute"""

    error_type = "EXPRESSION_NOT_FOUND"


class InsightNotFound(TypedError):
    """Could not find the insight id"""

    error_type = "INSIGHT_NOT_FOUND"


class JobNotFinished(TypedError):
    """The job has not ended: poll until its status says so"""

    error_type = "JOB_NOT_FINISHED"


def semoss_door(identify: Any) -> Door:
    return Door(prefixes=("/Monolith/",), error_reply=error_reply, identify=identify)
