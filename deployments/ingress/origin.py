"""Whether a browser sends a request for a page of another site."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import Request


def is_from_another_site(request: Request) -> bool:
    """By its header Origin, which is absent where no browser sends it, and from most GETs of the site's own pages."""
    origin = request.headers.get("origin")
    if origin is None:
        return False
    try:
        return urlsplit(origin).netloc != request.headers.get("host")
    except ValueError:
        # Brackets that hold no IPv6 address. No browser sends such a thing of its own pages.
        return True
