"""Fixtures of the tests on a real store."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from pipeline.accounts import Account
from tests.integration.ingress_app import IngressApp, ingress_app
from tests.integration.listing_store import Store


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    """An empty store with what the product does to it."""
    made = Store(redis_url)
    yield made
    await made.client.aclose()


@pytest.fixture
async def replicas(redis_url: str) -> AsyncIterator[list[IngressApp]]:
    """Two of one service."""
    async with ingress_app(redis_url) as one, ingress_app(redis_url) as two:
        yield [one, two]


@pytest.fixture
async def admin(replicas: list[IngressApp]) -> Account:
    return await replicas[0].admin()


@pytest.fixture
async def alice(replicas: list[IngressApp]) -> Account:
    """A user."""
    return await replicas[0].user("alice")
