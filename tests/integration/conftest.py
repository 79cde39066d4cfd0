"""Fixtures of the tests on a real store."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from pipeline.accounts import Account
from tests.integration.ingress_app import IngressApp, ingress_app
from tests.integration.listing_store import Store
from tests.integration.model_by_hand import ModelByHand
from tests.integration.semoss_client import Browser


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


@pytest.fixture
async def replica(redis_url: str) -> AsyncIterator[IngressApp]:
    """An ingress on an empty store."""
    async with ingress_app(redis_url) as replica:
        yield replica


@pytest.fixture
async def model(redis_url: str) -> AsyncIterator[ModelByHand]:
    """The model of that ingress."""
    async with ModelByHand(redis_url) as model:
        yield model


@pytest.fixture
async def visitor(replica: IngressApp) -> AsyncIterator[Browser]:
    """A SEMOSS client of a user's, logged in."""
    browser = Browser(replica.app)
    await browser.log_in(await replica.user("alice"))
    yield browser
    await browser.http.aclose()
