"""Who a SEMOSS client is: by the cookie of a session, or by credentials that make one (contract B.1).

A session entered by a cookie is the cookie's own. Requests with credentials and no cookie share one: those of an access token, or
those of a user's password. So both ways find their jobs again on the next request.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from deployments.ingress.api_keys import ApiKeys
from deployments.ingress.auth import address_of
from deployments.ingress.bearers import Bearers
from deployments.ingress.origin import is_from_another_site
from deployments.ingress.principal import Principal
from deployments.ingress.tokens import Tokens, app_id_of
from pipeline.accounts import Accounts
from pipeline.errors import ClientError, Unauthorized
from pipeline.store.connection import translated_errors
from pipeline.store.pixel_sessions import PixelSessions

COOKIE = "JSESSIONID"
#: Only requests below it carry the cookie.
COOKIE_PATH = "/Monolith"
CSRF_HEADER = "X-CSRF-Token"
_APP_HOST = "semoss"
#: Longer cookies are none of ours.
_MOST_COOKIE = 128


class Forged(ClientError):
    """The request comes from another site, or lacks the CSRF token"""

    status = 403


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """Where a client's insights and jobs are."""

    #: Name in the store.
    digest: str
    caller: Principal
    #: Empty for a session without a cookie, which no other site can make use of.
    csrf: str = ""


class Sessions:
    """Finds and begins sessions."""

    def __init__(
        self, store: PixelSessions, accounts: Accounts, tokens: Tokens, bearers: Bearers, *, csrf: bool
    ) -> None:
        """
        Args:
            csrf: whether requests with a cookie must carry the session's token as well.
        """
        self._store = store
        self._accounts = accounts
        self._tokens = tokens
        self._bearers = bearers
        self._csrf = csrf

    async def identify(self, request: Request) -> Principal:
        """The caller; the session is ``session_of(request)`` from then on.

        Raises:
            Unauthorized: no session, and no good credentials.
            Forged: a page of another site may have sent it.
            TooManyRequests: too many failed logins.
        """
        session = await self.entered(request)
        if session is not None:
            if request.method != "GET":
                self._check_origin(request, session)
        else:
            caller, kind = await self._log_in(request)
            session = Session(
                digest=_digest(kind, caller.user_id if kind == "basic" else caller.token_id), caller=caller
            )
        request.state.semoss_session = session
        return session.caller

    async def entered(self, request: Request) -> Session | None:
        """The session of the request's cookie, None if there is no such session (any more). Raises StoreUnavailable."""
        cookie = request.cookies.get(COOKIE, "")
        if not cookie or len(cookie) > _MOST_COOKIE:
            return None
        digest = _digest("cookie", cookie)
        with translated_errors():
            stored = await self._store.enter(digest)
        if stored is None:
            return None
        caller = Principal.from_record(stored.holder)
        if caller.expires_at <= time.time():
            return None
        try:
            # As good as the token, key or password that it was begun with.
            await self._bearers.check(caller)
        except Unauthorized:
            return None
        return Session(digest=digest, caller=caller, csrf=stored.csrf)

    async def begin(self, request: Request) -> tuple[Session, str] | None:
        """A session by the credentials of a request, and its cookie; None if there are no credentials. Raises as ``identify``."""
        if "authorization" not in request.headers:
            return None
        caller, _ = await self._log_in(request)
        cookie = secrets.token_urlsafe(32)
        session = Session(digest=_digest("cookie", cookie), caller=caller, csrf=secrets.token_urlsafe(24))
        with translated_errors():
            await self._store.open(session.digest, holder=caller.to_record(), csrf=session.csrf)
        return session, cookie

    async def end(self, request: Request) -> None:
        """End the session of the request's cookie, if there is one."""
        cookie = request.cookies.get(COOKIE, "")
        if cookie and len(cookie) <= _MOST_COOKIE:
            with translated_errors():
                await self._store.close(_digest("cookie", cookie))

    async def _log_in(self, request: Request) -> tuple[Principal, str]:
        headers = request.headers.getlist("authorization")
        if len(headers) != 1:
            raise Unauthorized
        scheme, _, rest = headers[0].strip().partition(" ")
        if scheme.lower() == "bearer":
            return await self._bearers.holder(rest.strip()), "bearer"
        if scheme.lower() != "basic":
            raise Unauthorized
        slug, password = _basic(rest.strip())
        if ApiKeys.looks_like_one(password):
            holder = await self._bearers.holder(password)
            if holder.slug != slug:
                raise Unauthorized
            return holder, "bearer"
        with translated_errors():
            account = await self._accounts.login(slug=slug, password=password, address=address_of(request) or "")
        issued = self._tokens.issue(account, app_id=app_id_of(_APP_HOST), app_host=_APP_HOST, device="")
        return Principal.of(issued.claims), "basic"

    def _check_origin(self, request: Request, session: Session) -> None:
        """Browsers send cookies along with whatever a page of another site posts; they also say where it comes from."""
        site = request.headers.get("sec-fetch-site")
        foreign = is_from_another_site(request) if site is None else site not in ("same-origin", "none")
        if foreign:
            raise Forged
        if self._csrf and not hmac.compare_digest(request.headers.get(CSRF_HEADER, "").encode(), session.csrf.encode()):
            raise Forged


def session_of(request: Request) -> Session:
    """The session of a request whose caller ``Sessions`` has identified."""
    session: Session = request.state.semoss_session
    return session


def set_cookie(request: Request, response: Response, cookie: str) -> None:
    """Hand out a session's cookie, or take it back (an empty one)."""
    secure = "https" in (request.url.scheme, request.headers.get("x-forwarded-proto", ""))
    response.set_cookie(
        COOKIE,
        cookie,
        max_age=None if cookie else 0,
        path=COOKIE_PATH,
        httponly=True,
        secure=secure,
        samesite="lax",
    )


def _digest(kind: str, secret: str) -> str:
    return hashlib.sha256(f"{kind}\0{secret}".encode("utf-8", "surrogatepass")).hexdigest()


def _basic(encoded: str) -> tuple[str, str]:
    """Access key and secret key: a user's slug and password."""
    try:
        slug, separator, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise Unauthorized from None
    if not separator or "\0" in password:
        raise Unauthorized
    return slug, password
