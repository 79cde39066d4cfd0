"""Replies of the store as Python values. The client's types allow text or bytes, whichever way it was opened."""

from __future__ import annotations


def text(reply: object) -> str:
    """A reply that is a string."""
    assert isinstance(reply, bytes | str)
    return reply.decode() if isinstance(reply, bytes) else reply
