"""Where a request comes from. Whatever a header says about it is a claim; how many of them to believe is a setting."""

from __future__ import annotations

from starlette.requests import Request


def client_address(request: Request, *, trusted_proxies: int = 0) -> str | None:
    """The caller's address; None if the server does not know it.

    Args:
        trusted_proxies: how many proxies of our own stand in front, each of which adds its caller to ``X-Forwarded-For``. The
            address is then the one that the outermost of them saw. 0: the peer of the connection.
    """
    peer = request.client.host if request.client else None
    if request.client and request.client.port == 0:
        # Serve's web server believes X-Forwarded-For if the peer is 127.0.0.1, and has then no port to report.
        peer = "127.0.0.1"
    if trusted_proxies == 0:
        return peer
    said = [part.strip() for line in request.headers.getlist("x-forwarded-for") for part in line.split(",")]
    return _without_port(said[-trusted_proxies]) if len(said) >= trusted_proxies else peer


def _without_port(text: str) -> str:
    """Some proxies write ``192.0.2.1:4711`` or ``[2001:db8::1]:4711``."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
