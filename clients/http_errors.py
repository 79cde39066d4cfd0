"""What an HTTP response that is no success says, and whether the service said it or something in front of it did."""

from __future__ import annotations

import httpx

#: Statuses after which the same request may succeed.
_AWAY = frozenset({429, 502, 503, 504})
#: What holds the error in a body of the service's own API.
API = ("error",)
#: The same on paths that are its Open-Assistant door's where it has one. Elsewhere such a body is somebody else's: every
#: FastAPI application answers so.
OPEN_ASSISTANT = ("error", "detail")
#: Characters shown of an error that is not one of the service's.
_SHOWN = 200


def is_away(response: httpx.Response, *, keys: tuple[str, ...] = API) -> bool:
    """Whether the same request may succeed later.

    A 404 that is not the service's own tells of no missing thing: Serve's proxy answers every path with one, in plain text,
    as long as it has no route to the application, which is so for a moment whenever the service is restarted.
    """
    return response.status_code in _AWAY or (response.status_code == 404 and _own(response, keys) is None)


def error_text(response: httpx.Response, *, keys: tuple[str, ...] = API) -> str:
    """The error in the service's words, else the beginning of whatever came; one line."""
    return " ".join((_own(response, keys) or response.text[:_SHOWN].strip() or response.reason_phrase).split())


def _own(response: httpx.Response, keys: tuple[str, ...]) -> str | None:
    """The error of a body as the service's are, an object with one of the keys; None if it is another one."""
    try:
        said = response.json()
    except ValueError:
        return None
    if not isinstance(said, dict):
        return None
    return next((str(said[key]) for key in keys if key in said), None)
