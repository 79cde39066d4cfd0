"""Who uses the door (contract A.1): people who log in under a name, and users of programs that act for them.

Each has an account of the service, whose slug nobody can register or log in with (it has colons in it), and whose id follows from
the slug: a program's request needs no look into the store to know whose it is.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError
from starlette.requests import Request

from deployments.ingress.bearers import Bearers
from deployments.ingress.doors.open_assistant.errors import Refused, invalid
from deployments.ingress.fields import has_controls
from deployments.ingress.principal import Principal
from deployments.ingress.tokens import TokenExpired, Tokens, app_id_of
from pipeline.accounts import MAX_NAME, Account, Accounts, Role
from pipeline.errors import Unauthorized
from pipeline.ids import base62, new_id
from pipeline.store.chat_trees import RefreshTokenStore
from pipeline.store.connection import translated_errors

ACCESS_S = 60 * 60
REFRESH_S = 7 * 24 * 60 * 60
#: What a refresh token begins with, so that one in the place of an access token is known for what it is.
_REFRESH = "oar"
_APP_HOST = "open-assistant"
_DEBUG = "open-assistant:debug:"
_CLIENT = "open-assistant:client:"
#: Characters of the header, of its fields.
_MOST_HEADER, _MOST_FIELD = 8192, 256


class TrustedUser(BaseModel):
    """The content of the header ``TrustedClient``: a program, its key, and the user that it acts for."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, hide_input_in_errors=True)

    api_key: SecretStr
    client: str
    user_id: str
    provider_account_id: str
    username: str

    @property
    def slug(self) -> str:
        return f"{_CLIENT}{quote(self.client, safe='')}:{self.user_id}"


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenPair:
    access: str
    refresh: str


def user_id_of(slug: str) -> str:
    """Id of the account of a slug of the door: always the same, and nobody else's."""
    digest = hashlib.sha256(slug.encode()).digest()
    return f"usr-{base62(int.from_bytes(digest[:16], 'big')).rjust(22, '0')}"


def name_of(caller: Principal) -> str:
    """The id by which the door's clients know a user: the name they logged in under, or what their program calls them."""
    if caller.slug.startswith(_DEBUG):
        return caller.slug.removeprefix(_DEBUG)
    if caller.slug.startswith(_CLIENT):
        return caller.slug.removeprefix(_CLIENT).partition(":")[2]
    return caller.user_id


def is_of_door(account: Account) -> bool:
    """Whether an account was made here, and not at user-svc."""
    return account.slug.startswith((_DEBUG, _CLIENT))


class Users:
    """Logs in, and tells who sent a request."""

    def __init__(
        self,
        accounts: Accounts,
        tokens: Tokens,
        bearers: Bearers,
        refresh_tokens: RefreshTokenStore,
        *,
        debug_login: bool,
        trusted_keys: Sequence[SecretStr],
    ) -> None:
        self._accounts = accounts
        self._tokens = tokens
        self._bearers = bearers
        self._refresh_tokens = refresh_tokens
        self._trusted_keys = [key.get_secret_value().encode() for key in trusted_keys]
        self.debug_login = debug_login

    async def log_in(self, name: str) -> TokenPair:
        """Log in under a name, without a password; the account is made if there is none.

        Raises:
            Refused: this is not allowed here, or there is no name.
            InvalidRequest: it is too long, or no name.
        """
        if not self.debug_login:
            raise Refused(403, "Debug auth is not allowed")
        if not name:
            raise Refused(400, "Username is required")
        if len(name) > MAX_NAME or has_controls(name):
            raise invalid(
                "query", "code", f"ensure this is a name of at most {MAX_NAME} characters without control characters"
            )
        account = await self._account(f"{_DEBUG}{name}", name)
        refresh = new_id(_REFRESH) + secrets.token_urlsafe(16)
        with translated_errors():
            await self._refresh_tokens.keep(refresh, f"{account.id} {account.created_at!r}", lifetime_s=REFRESH_S)
        return TokenPair(access=self._access_token(account), refresh=refresh)

    async def refresh(self, token: str) -> str:
        """A new access token for a refresh token. Raises Refused."""
        if not token.startswith(f"{_REFRESH}-"):
            await self._holder(token)
            raise Refused(400, "Invalid token type")
        with translated_errors():
            holder = await self._refresh_tokens.holder(token)
        user_id, _, created_at = (holder or "").partition(" ")
        account = await self.account(user_id) if user_id else None
        # One that was deleted and made anew is another one.
        if account is None or repr(account.created_at) != created_at:
            raise Refused(401, "Invalid token")
        return self._access_token(account)

    async def trusted(self, request: Request) -> tuple[TrustedUser, Account]:
        """The user of the header ``TrustedClient``, with an account. Raises Refused."""
        user = self._trusted_user(request)
        if user is None:
            raise Refused(401, "Missing token")
        return user, await self._account(user.slug, user.username[:MAX_NAME])

    async def identify(self, request: Request) -> Principal:
        """Who sent a request. The header ``TrustedClient`` goes before a token.

        Raises:
            Refused: nobody that may; in the words of contract A.1.
        """
        user = self._trusted_user(request)
        if user is not None:
            return Principal(
                user_id=user_id_of(user.slug),
                slug=user.slug,
                roles=(Role.USER,),
                app_id=app_id_of(_APP_HOST),
                device="",
                token_id="trusted-client",
                expires_at=0,
                app_host=_APP_HOST,
            )
        headers = request.headers.getlist("authorization")
        if len(headers) != 1 or not headers[0].startswith("Bearer "):
            raise Refused(403, "Not authenticated")
        token = headers[0].removeprefix("Bearer ")
        if token.startswith(f"{_REFRESH}-"):
            raise Refused(400, "Invalid token type")
        return await self._holder(token)

    async def account(self, user_id: str) -> Account | None:
        with translated_errors():
            return await self._accounts.by_id(user_id)

    async def forget(self, account: Account) -> None:
        with translated_errors():
            await self._accounts.store.remove(account)

    async def _account(self, slug: str, name: str) -> Account:
        found = await self.account(user_id_of(slug))
        if found is not None:
            return found
        now = self._accounts.clock()
        # No password has this for a hash, and no login gets as far as comparing it: no slug of a login has a colon.
        new = Account(id=user_id_of(slug), slug=slug, name=name, password_hash="!", created_at=now, updated_at=now)
        with translated_errors():
            if await self._accounts.store.create(new):
                return new
        # Somebody was faster.
        return await self.account(new.id) or new

    def _access_token(self, account: Account) -> str:
        return self._tokens.issue(
            account, app_id=app_id_of(_APP_HOST), app_host=_APP_HOST, device="", lifetime_s=ACCESS_S
        ).encoded

    async def _holder(self, token: str) -> Principal:
        try:
            return await self._bearers.holder(token)
        except TokenExpired:
            raise Refused(401, "Token expired") from None
        except Unauthorized:
            raise Refused(401, "Invalid token") from None

    def _trusted_user(self, request: Request) -> TrustedUser | None:
        """The user in the header, None without one. Raises Refused."""
        header = request.headers.get("trustedclient")
        if header is None:
            return None
        try:
            if len(header) > _MOST_HEADER:
                raise ValueError
            user = TrustedUser.model_validate(json.loads(base64.b64decode(header, validate=True)))
        # The header is not quoted: there is a key in it.
        except (binascii.Error, ValueError, RecursionError, ValidationError):
            raise Refused(401, "Invalid token") from None
        key = user.api_key.get_secret_value().encode("utf-8", "surrogatepass")
        # All of them, always: how long it takes does not tell which was nearly right.
        if not sum(hmac.compare_digest(key, known) for known in self._trusted_keys):
            raise Refused(401, "Unauthorized client")
        named = (user.client, user.user_id)
        if any(not 1 <= len(text) <= _MOST_FIELD or has_controls(text) or not _is_text(text) for text in named):
            raise Refused(401, "Invalid token")
        return user


def _is_text(text: str) -> bool:
    """Whether it can be written; half a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
