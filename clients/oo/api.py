"""One HTTP request to the selected service, and one clear line when it fails."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from clients.oo.config import Environment
from clients.oo.errors import OoError

#: Characters of a path that are sent as they are; ``%`` among them, since ids come percent-encoded.
_SAFE = "/%?&=:@!$'()*+,;~-._[]"
#: Characters shown of an error that is not one of the service's.
_SHOWN = 200
#: A sync prompt answers when it has its answer and a subscription when there is news: reading has no limit.
_TIMEOUT = httpx.Timeout(10, read=None)


def connect(url: str) -> httpx.Client:
    """A client for the service at ``url``. Redirects are not followed: the token is for this address only."""
    # A proxy is for the way out; this machine is not reached through one.
    is_here = urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
    return httpx.Client(base_url=url, timeout=_TIMEOUT, trust_env=not is_here)


@contextmanager
def request(
    environment: Environment,
    method: str,
    path: str,
    *,
    body: Mapping[str, Any] | None = None,
    query: Mapping[str, str] | None = None,
) -> Iterator[httpx.Response]:
    """Send a request with the user's token, if there is one. The response is a success and not read yet.

    Raises:
        OoError: the service cannot be reached, the connection broke off, or it answered with an error.
    """
    headers = {"Authorization": f"Bearer {environment.token}"} if environment.token else {}
    content = None
    if body is not None:
        headers["Content-Type"] = "application/json"
        content = json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogateescape")
    try:
        with (
            connect(environment.url) as client,
            client.stream(
                method, quote(path, safe=_SAFE), content=content, params=query or None, headers=headers
            ) as response,
        ):
            if response.status_code >= 300:
                response.read()
                raise _refused(environment, method, path, response)
            yield response
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise _unreachable(environment, error) from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise OoError(f"{method} {path}: {type(error).__name__}: {error}") from None


def call(environment: Environment, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
    """The JSON that a request is answered with. Raises OoError."""
    with request(environment, method, path, body=body) as response:
        response.read()
        try:
            return response.json()
        except ValueError:
            raise OoError(f"{method} {path}: the answer is not JSON; is {environment.url} the right address?") from None


def login_hint(environment: Environment) -> str:
    """What to do without a good token."""
    return (
        f"log in to {environment.name} ({environment.url}) with: oo login {environment.user or 'SLUG'}; "
        "the first start of a service made the admin 1backend"
    )


def _unreachable(environment: Environment, error: httpx.TransportError) -> OoError:
    # "[Errno 111] Connection refused" is what the system says; its number helps nobody.
    reason = str(error).rpartition("] ")[2].lower() or "no answer"
    where = f"{environment.url} (environment {environment.name})"
    return OoError(
        f"cannot reach {where}: {reason}. Start the service with `make serve`, or choose another one: oo env ls"
    )


def _refused(environment: Environment, method: str, path: str, response: httpx.Response) -> OoError:
    said = _error_text(response)
    hint = ""
    if response.status_code == 401 and not path.startswith(("/user-svc/login", "/user-svc/register")):
        hint = (
            f" (the token may have expired, or lack the permission; {login_hint(environment)})"
            if environment.token
            else f": not logged in; {login_hint(environment)}"
        )
    elif (seconds := response.headers.get("Retry-After", "")).isdecimal():
        hint = f" (try again in {seconds} s)"
    return OoError(f"{method} {path}: {response.status_code} {said}{hint}")


def _error_text(response: httpx.Response) -> str:
    try:
        said = response.json()["error"]
    except (ValueError, TypeError, KeyError, LookupError):
        said = response.text[:_SHOWN].strip() or response.reason_phrase
    return " ".join(str(said).split())
