"""What an HTTP response that is no success says, and whether the service said it or something in front of it did."""

from __future__ import annotations

import httpx

#: Statuses after which the same request may succeed.
_AWAY = frozenset({429, 502, 503, 504})
#: Characters shown of an error that is not one of the service's.
_SHOWN = 200


def is_away(response: httpx.Response) -> bool:
    """Whether the same request may succeed later.

    A 404 that is not the service's own tells of no missing thing: Serve's proxy answers every path with one, in plain text,
    as long as it has no route to the application, which is so for a moment whenever the service is restarted.
    """
    return response.status_code in _AWAY or (response.status_code == 404 and _own(response) is None)


def error_text(response: httpx.Response) -> str:
    """The error in the service's words, else the beginning of whatever came; one line."""
    return " ".join((_own(response) or response.text[:_SHOWN].strip() or response.reason_phrase).split())


def _own(response: httpx.Response) -> str | None:
    """The error of a body as all of the service's are, ``{"error": …}``; None if it is another one."""
    try:
        said = response.json()
    except ValueError:
        return None
    return str(said["error"]) if isinstance(said, dict) and "error" in said else None
