"""What can go wrong with a call to Prompt Svc from Python, whichever way it went. None of them carries prompt text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class PromptSvcError(Exception):
    """A call to Prompt Svc failed.

    They are made of the message and keywords and pickle as such: a Ray task or actor may raise them to its caller.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        field: str | None = None,
        value: str | None = None,
        allowed: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        #: What the service says in one line.
        self.message = message
        #: HTTP status of the error, None if the service did not answer.
        self.status = status
        #: The field that is wrong, as a dotted path, if one is.
        self.field = field
        #: What the service got there, as it shows it: of texts only their length.
        self.value = value
        #: What is allowed there, in words.
        self.allowed = allowed
        #: Seconds after which the same call may succeed.
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (type(self), self.message, {name: getattr(self, name) for name in _DETAILS})


_DETAILS = ("status", "field", "value", "allowed", "retry_after_s")


def _remade(kind: type[PromptSvcError], message: str, details: dict[str, Any]) -> PromptSvcError:
    return kind(message, **details)


class Refused(PromptSvcError):
    """The service will not do this, however often it is asked (4xx): a field is wrong, an id is taken."""


class NotFound(Refused):
    """There is no such prompt, or it is somebody else's (404)."""


class NotAllowed(Refused):
    """The caller is not known or lacks a permission (401)."""


class Unavailable(PromptSvcError):
    """The service or its store is away, restarts, or asks for patience (429, 503). The same call may succeed later."""


class NotDeployed(Unavailable):
    """There is no Ray, no Serve or no application of that name to talk to."""


class ServiceFailed(PromptSvcError):
    """The service failed in a way it does not explain (500), or said something that this client does not understand."""


def from_status(
    status: int,
    message: str,
    *,
    field: str | None = None,
    value: str | None = None,
    allowed: str | None = None,
    retry_after_s: float | None = None,
) -> PromptSvcError:
    """The error for an HTTP status and what came with it."""
    kind: type[PromptSvcError]
    if status in (429, 502, 503, 504):
        kind = Unavailable
    elif status >= 500:
        kind = ServiceFailed
    else:
        kind = {401: NotAllowed, 404: NotFound}.get(status, Refused)
    return kind(message, status=status, field=field, value=value, allowed=allowed, retry_after_s=retry_after_s)


def from_answer(error: Mapping[str, Any]) -> PromptSvcError:
    """The error in the answer of a handle call (docs/handles.md)."""
    return from_status(
        int(error.get("status", 500)),
        str(error.get("message", "the service failed")),
        field=error.get("field"),
        value=error.get("value"),
        allowed=error.get("allowed"),
        retry_after_s=error.get("retryAfterS"),
    )
