"""The web application around the routes: common headers, errors, raw paths, no redirects."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.types import Lifespan

from deployments.ingress.auth import GuardedRoute, RawPath
from deployments.ingress.errors import ErrorBoundary, HttpExceptions
from deployments.ingress.headers import CommonHeaders


def web_app(routes: Sequence[GuardedRoute], *, lifespan: Lifespan[Starlette] | None = None) -> Starlette:
    """An ASGI app that serves ``routes``. Only routes that say who may use them fit in."""
    doors = list(dict.fromkeys(route.door for route in routes if route.door is not None))
    app = Starlette(
        routes=list(routes),
        middleware=[Middleware(CommonHeaders), Middleware(ErrorBoundary, doors), Middleware(RawPath)],
        exception_handlers={HTTPException: HttpExceptions(doors)},
        lifespan=lifespan,
    )
    # A path with a slash too many is unknown, not moved: a redirected POST loses its body in many clients.
    app.router.redirect_slashes = False
    return app
