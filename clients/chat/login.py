"""Who the user is: a token of their own, the one that ``oo login`` keeps, or a name where the service asks for no password."""

from __future__ import annotations

import getpass
from typing import Protocol

import httpx

from clients.chat.errors import Busy, ChatError, NotAllowed
from clients.http_errors import OPEN_ASSISTANT, error_text, is_away


class Login(Protocol):
    """Gives the token that requests are sent with."""

    def token(self) -> str:
        """Raises ChatError, Busy, or an error of httpx."""
        ...

    def renew(self) -> str:
        """Another token in place of one that was refused. Raises NotAllowed where there is none."""
        ...


class TokenLogin:
    """With a token that somebody else looks after."""

    def __init__(self, token: str, *, hint: str) -> None:
        """``hint``: what to do when it is no good."""
        self._token = token
        self._hint = hint

    def token(self) -> str:
        return self._token

    def renew(self) -> str:
        raise NotAllowed(f"the service does not take this token (any more); {self._hint}")


class NameLogin:
    """Under a name alone. Its tokens are good for an hour, and renewed without a word."""

    def __init__(self, http: httpx.Client, name: str) -> None:
        self._http = http
        self._name = name
        self._access: str | None = None
        self._refresh: str | None = None

    def token(self) -> str:
        return self._access or self._log_in()

    def renew(self) -> str:
        if self._refresh is not None:
            answer = self._http.get("/auth/refresh", headers={"Refresh": self._refresh})
            if answer.status_code == 200:
                self._access = _text(answer, "access_token")
                return self._access
        return self._log_in()

    def _log_in(self) -> str:
        answer = self._http.get("/auth/callback/debug", params={"code": self._name})
        if answer.status_code != 200:
            if is_away(answer, keys=OPEN_ASSISTANT):
                raise Busy(error_text(answer, keys=OPEN_ASSISTANT))
            raise NotAllowed(
                "the service lets nobody in without a password; log in with `oo login`, or give a token: --token"
                if answer.status_code in (403, 404)
                else f"the service does not let {self._name} in ({answer.status_code})"
            )
        self._access = _text(answer, "access_token", "access_token")
        self._refresh = _text(answer, "refresh_token", "access_token")
        return self._access


def own_name() -> str:
    """The user's name on this machine."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "user"


def _text(answer: httpx.Response, *path: str) -> str:
    found = answer.json()
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, str) or not found:
        raise ChatError(f"the service's answer has no {'.'.join(path)}; is this the right address?")
    return found
