"""The identity of the embedded store, remembered outside of it: so a store that was wiped or exchanged is noticed before it
looks like a service without prompts (DESIGN §3, Store)."""

from __future__ import annotations

from pathlib import Path

import redis

from deployments.local.environment import CannotStart
from pipeline.store.keys import Keys
from pipeline.store.replies import text

FILE = "store-id"


def check(client: redis.Redis, namespace: str, data: Path) -> None:
    """Compare the store with what is remembered of it.

    Raises:
        CannotStart: it has lost its identity, or has another one.
    """
    file = data / FILE
    if not file.exists():
        return
    remembered = file.read_text(encoding="utf-8").strip()
    found = _identity(client, namespace)
    if found != remembered:
        state = "is empty or has lost its identity" if found is None else f"is another one ({found})"
        raise CannotStart(
            f"the store under {data} {state}, it should be {remembered}: restore it, or remove {file} to begin without what "
            "it held"
        )


def remember(client: redis.Redis, namespace: str, data: Path) -> None:
    """Keep the identity that the application has given a fresh store."""
    found = _identity(client, namespace)
    file = data / FILE
    if found is not None and not file.exists():
        partial = file.with_suffix(".partial")
        partial.write_text(found + "\n", encoding="utf-8")
        partial.replace(file)


def _identity(client: redis.Redis, namespace: str) -> str | None:
    found = client.hget(Keys(namespace).identity(), "id")
    return None if found is None else text(found)
