"""Names of the keys that accounts use. What a client chooses stands at the end of a name, or is hashed."""

from __future__ import annotations

import hashlib

from pipeline.store.keys import Keys


class AccountKeys:
    """Names below one namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self._keys = Keys(namespace)

    def user(self, user_id: str) -> str:
        """Hash: one account."""
        return str(self._keys.account(user_id))

    def slug(self, slug: str) -> str:
        """String: id of the account that has this slug."""
        return str(self._keys.slug(slug))

    def everybody(self) -> str:
        """Sorted set: ids of accounts by the time of their registration."""
        return str(self._keys.accounts())

    def login_attempts(self, slug: str, address: str) -> str:
        """Counter with an expiry. Hashed: a slug that nobody has may be anything, of any length."""
        digest = hashlib.sha256(f"{len(slug)}:{slug}:{address}".encode()).hexdigest()
        return f"{self.namespace}:login-attempts:{digest}"
