"""Fixtures that all layers share. Importing this must stay cheap: unit tests load it too."""

from __future__ import annotations

import gc
import itertools
import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Until the first test begins everything is made to stay: looking through it for garbage takes a fifth of the time.
gc.disable()

# In a run in the background it is ignored, and so it would be by the services that are started and then stopped with it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long one example takes says nothing on a busy machine.
settings.register_profile("prompt-svc", deadline=None)
settings.load_profile("prompt-svc")

# One token for every Ray that a test run starts, so that a test can connect to the one of a service it spawned. Set
# before anything imports Ray, which reads its environment at import.
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
os.environ.pop("RAY_ADDRESS", None)
# A store of the developer's own is never touched: tests flush what they use.
os.environ.pop("REDIS_URL", None)

#: New objects after which the collector looks for garbage among them; Python's 700 are for small programs.
GC_THRESHOLD = 10_000


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    gc.enable()


#: Databases of the session's store; each test gets one of its own.
DATABASES = 64


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """A real store for the whole session: the ``EmbeddedValkey`` object. Do not kill it; start your own for that."""
    from deployments.local.valkey import EmbeddedValkey

    # everysec: tests of durability start a store of their own, and the rest need not wait for the disk.
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey"), appendfsync="everysec", databases=DATABASES) as server:
        yield server


@pytest.fixture(scope="session")
def valkey(valkey_server: object) -> str:
    """URL of the session's store, database 0."""
    return valkey_server.url  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def _database_numbers() -> Iterator[int]:
    return itertools.cycle(range(1, DATABASES))


@pytest.fixture
def redis_url(valkey: str, _database_numbers: Iterator[int]) -> str:
    """URL of an empty database that no other running test uses."""
    import redis

    url = f"{valkey.rsplit('/', 1)[0]}/{next(_database_numbers)}"
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """Where the converted embedded model is, so that a service with a fresh data directory need not convert it again."""
    return Path(__file__).resolve().parent.parent / "data" / "models"
