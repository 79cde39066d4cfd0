"""Access tokens: RS256 JWTs with the claims of the contract §7, issued at login and verified on every request."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pipeline.accounts import Account
from pipeline.errors import Unauthorized
from pipeline.ids import base62, new_id

ALGORITHM = "RS256"
#: Bytes of a token; ours have about 700.
MAX_TOKEN = 8 * 1024
#: Seconds by which the clocks of two machines may differ.
LEEWAY_S = 5
#: Verified tokens remembered, about 1 KiB each.
_REMEMBERED = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class Claims:
    """What a verified token says."""

    user_id: str
    slug: str
    roles: tuple[str, ...]
    app_id: str
    device: str
    token_id: str
    #: Unix seconds.
    expires_at: int
    #: Host of the app, of which ``app_id`` is a digest; empty in tokens of older versions.
    app_host: str = ""
    #: ``Account.token_generation`` when it was issued.
    generation: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class IssuedToken:
    """A new token and what is known about it."""

    claims: Claims
    #: Unix seconds.
    issued_at: int
    #: The JWT.
    encoded: str

    def __repr__(self) -> str:
        return f"IssuedToken(id={self.claims.token_id!r}, user={self.claims.user_id!r})"


class TokenExpired(Unauthorized):
    """Unauthorized"""


class Tokens:
    """Issues and verifies access tokens with one key."""

    def __init__(self, key: RSAPrivateKey, *, lifetime_s: float, clock: Callable[[], float] = time.time) -> None:
        self._key = key
        self._public_key = key.public_key()
        self._lifetime_s = lifetime_s
        self._clock = clock
        self._verified: OrderedDict[bytes, Claims] = OrderedDict()
        #: PEM ``PUBLIC KEY``, with which anyone can verify our tokens.
        self.public_pem = self._public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def issue(
        self, account: Account, *, app_id: str, device: str, app_host: str = "", lifetime_s: float | None = None
    ) -> IssuedToken:
        """A token for ``account`` as it is now; roles that it gets later are in its next token. It is good for
        ``lifetime_s`` seconds, as long as all are if that is None."""
        now = int(self._clock())
        claims = Claims(
            user_id=account.id,
            slug=account.slug,
            roles=account.roles_in(app_id),
            app_id=app_id,
            device=device,
            token_id=new_id("tok"),
            expires_at=now + max(1, int(lifetime_s or self._lifetime_s)),
            app_host=app_host,
            generation=account.token_generation,
        )
        payload = {
            "sub": claims.user_id,
            "1ui": claims.user_id,
            "1sl": claims.slug,
            "1ro": list(claims.roles),
            "1ai": claims.app_id,
            "1de": claims.device,
            "1ah": claims.app_host,
            "1tg": claims.generation,
            "jti": claims.token_id,
            "iat": now,
            "exp": claims.expires_at,
        }
        return IssuedToken(claims=claims, issued_at=now, encoded=jwt.encode(payload, self._key, algorithm=ALGORITHM))

    def verify(self, encoded: str) -> Claims:
        """The claims of a token that we signed and that has not expired. Raises Unauthorized, whatever is wrong; TokenExpired
        where it is only that."""
        if len(encoded) > MAX_TOKEN:
            raise Unauthorized
        digest = hashlib.sha256(encoded.encode("utf-8", "surrogatepass")).digest()
        claims = self._verified.get(digest)
        if claims is None:
            claims = self._decode(encoded)
            self._verified[digest] = claims
            if len(self._verified) > _REMEMBERED:
                self._verified.popitem(last=False)
        else:
            self._verified.move_to_end(digest)
        if claims.expires_at + LEEWAY_S <= self._clock():
            self._verified.pop(digest, None)
            raise TokenExpired
        return claims

    def _decode(self, encoded: str) -> Claims:
        try:
            payload: dict[str, Any] = jwt.decode(
                encoded,
                self._public_key,
                # Never more than one: the header, which an attacker writes, must have nothing to choose from.
                algorithms=[ALGORITHM],
                # Without "require" PyJWT accepts a token that never expires.
                options={"require": ["exp", "iat", "sub", "jti"], "enforce_minimum_key_length": True},
                leeway=LEEWAY_S,
            )
            return _claims(payload)
        except jwt.ExpiredSignatureError:
            raise TokenExpired from None
        # The header is parsed before the signature is checked; deep JSON in it exhausts the parser's stack.
        except (jwt.PyJWTError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
            raise Unauthorized from None


def _claims(payload: dict[str, Any]) -> Claims:
    roles = payload["1ro"]
    if payload["1ui"] != payload["sub"] or not isinstance(roles, list):
        raise ValueError("claims")
    return Claims(
        user_id=str(payload["sub"]),
        slug=str(payload["1sl"]),
        roles=tuple(str(role) for role in roles),
        app_id=str(payload["1ai"]),
        device=str(payload["1de"]),
        token_id=str(payload["jti"]),
        expires_at=int(payload["exp"]),
        app_host=str(payload.get("1ah", "")),
        generation=int(payload.get("1tg", 0)),
    )


def app_id_of(app_host: str) -> str:
    """The id of an app: the same for the same host, on every replica (there is no table of apps)."""
    digest = hashlib.sha256(app_host.encode("utf-8", "surrogatepass")).digest()
    return f"app-{base62(int.from_bytes(digest[:16], 'big'))}"
