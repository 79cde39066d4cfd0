"""API keys: long-lived secrets that stand for a user, for programs. Only their digests are kept."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from pipeline.errors import Conflict

#: Keys that one user may have at a time.
MOST_KEYS = 50
#: Every key begins so.
PREFIX = "sk"
#: Characters of a key that a listing shows, so that its owner knows which it is.
SHOWN = 8


class TooManyKeys(Conflict):
    """There are as many API keys as a user can have; revoke some first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiKey:
    """What is known of a key; the key itself is not."""

    id: str
    user_id: str
    name: str
    #: Its first characters.
    prefix: str
    #: Microseconds since the epoch by the store's clock.
    created_us: int
    #: When it was last used, within ``USED_EVERY_S``; 0 = never.
    used_us: int


def digest_of(key: str) -> str:
    """By what a key is kept. Keys are random, 131 bits of it: nothing slower is needed to keep them from being guessed."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
