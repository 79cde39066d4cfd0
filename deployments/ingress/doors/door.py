"""What tells one public API from another before its endpoints run: who a caller is, and what an error looks like."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from deployments.ingress.principal import Principal
from pipeline.errors import PromptSvcError

#: The reply for an error that a client may see. ``PromptSvcError`` knows its status and ``retry_after_s``; HTTPException is
#: Starlette's own 404 or 405.
ErrorReply = Callable[[PromptSvcError | HTTPException], Response]
#: The caller of a request. Raises Unauthorized, or an error of the door's own.
Identify = Callable[[Request], Awaitable[Principal]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Door:
    """One public API beside Prompt Svc's own."""

    #: Paths that belong to it, known or not, as prefixes: errors there are in its shape.
    prefixes: tuple[str, ...]
    error_reply: ErrorReply
    #: None: by the service's own access tokens.
    identify: Identify | None = None

    def owns(self, path: str) -> bool:
        return path.startswith(self.prefixes)


def door_of(doors: Sequence[Door], path: str) -> Door | None:
    """The door that a path belongs to, None for the service's own API."""
    return next((door for door in doors if door.owns(path)), None)
