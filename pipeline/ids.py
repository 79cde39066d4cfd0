"""Ids as the original service writes them: a prefix, a hyphen, letters and digits (contract 1backend §0.6)."""

from __future__ import annotations

import secrets
import string

_ALPHABET = string.digits + string.ascii_letters
#: 22 base-62 digits hold 130 bits: not to be guessed (SECURITY §2.1, API1).
_LENGTH = 22


def new_id(prefix: str) -> str:
    """A fresh unguessable id such as ``prom-4fP…``."""
    return f"{prefix}-{''.join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))}"
