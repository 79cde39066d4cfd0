"""Fixtures of the tests on a real store."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.integration.listing_store import Store


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    """An empty store with what the product does to it."""
    made = Store(redis_url)
    yield made
    await made.client.aclose()
