"""Every error Prompt Svc raises on purpose, split by whose fault it is.

Each class knows its HTTP status, so that a door maps an error without asking for its type. The class docstring is the
default message. Messages are shown to clients and written to logs: they must never carry prompt text.
"""

from __future__ import annotations

import traceback


class PromptSvcError(Exception):
    """Something went wrong in Prompt Svc."""

    #: HTTP status a door answers with.
    status: int = 500
    #: Seconds after which the same request may succeed, or None.
    retry_after_s: float | None = None

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip().splitlines()[0])

    @property
    def message(self) -> str:
        return str(self.args[0])


class ClientError(PromptSvcError):
    """The request cannot be served as it is."""

    status = 400


class Shown(str):
    """A value already written the way a message shows it: for values whose text it must not show."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class InvalidField(ClientError):
    """A field has a value that is not allowed."""

    def __init__(self, field: str, got: object, allowed: str) -> None:
        #: What it got, as the message shows it.
        self.shown = _shorten(got)
        super().__init__(f"{field}: got {self.shown}, allowed is {allowed}")
        self.field = field
        self.allowed = allowed


class Unauthorized(ClientError):
    """Unauthorized"""

    status = 401


class Denied(Unauthorized):
    """Unauthorized"""

    # The caller is known and lacks the permission: some doors say so, the service's own API does not (it knows no 403).


class NotFound(ClientError):
    """Not Found"""

    status = 404


class MethodNotAllowed(ClientError):
    """Method Not Allowed"""

    status = 405


class Conflict(ClientError):
    """The object exists already with other content."""

    status = 409


class TooLarge(ClientError):
    """The request body is too large."""

    status = 413


class UnsupportedMediaType(ClientError):
    """The request body's encoding is not supported."""

    status = 415


class TooManyRequests(ClientError):
    """Too Many Requests"""

    status = 429

    def __init__(self, message: str | None = None, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ServerError(PromptSvcError):
    """Internal Server Error"""

    status = 500


class StoreUnavailable(ServerError):
    """The store cannot be reached; try again."""

    status = 503
    retry_after_s = 2.0


class StoreFull(StoreUnavailable):
    """The disk of the store is nearly full; try again later."""

    retry_after_s = 30.0


class StoreRefused(ServerError):
    """The store is not one that prompts can be trusted to (see the message); the service does not start on it."""

    status = 503


class StaleLease(PromptSvcError):
    """The attempt no longer owns its prompt: it was cancelled, finished, or granted again under a higher fence."""


class LogForgotten(StaleLease):
    """The store has forgotten entries of the attempt's log: it came back with less than it had acknowledged."""


class InvalidTransition(PromptSvcError):
    """The prompt is not in a state from which this transition leads on."""

    status = 409


class EngineError(PromptSvcError):
    """The engine failed this request; a later attempt may succeed."""


class PermanentEngineError(EngineError):
    """The engine can never serve this request; it is not retried."""


class EngineDead(EngineError):
    """The engine is gone; the replica that holds it must be replaced. Not recoverable in this process."""


def kind_of(value: object) -> str:
    """How an error message calls a JSON value without showing it."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return f"a string of {len(value)} characters"
        case list():
            return "an array"
        case _:
            return "an object"


#: Members of an array or object that a message shows.
_MOST_SHOWN = 8


def describe(error: BaseException) -> str:
    """Where an error came from, without its message: that may hold a prompt (DESIGN §4, D7)."""
    parts: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        parts.append(type(current).__qualname__ + "\n" + "".join(traceback.format_tb(current.__traceback__)))
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "caused by ".join(parts).rstrip()


def _is_flat(value: object) -> bool:
    """Whether it is no array or object, or one of few members that are neither."""
    if not isinstance(value, list | dict):
        return True
    members = value.values() if isinstance(value, dict) else value
    return len(value) <= _MOST_SHOWN and not any(isinstance(member, list | dict) for member in members)


def _shorten(value: object, limit: int = 80) -> str:
    # Any but a small, flat array or object by its kind: its text may be as long, and nested as deep, as a client cares to
    # write.
    text = repr(value) if _is_flat(value) else kind_of(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
