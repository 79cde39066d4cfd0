"""The account of jobs that name no user."""

import logging

import pytest

from pipeline.accounts import Accounts, SlugTaken, WrongPassword
from pipeline.service_account import SERVICE_ID, SERVICE_SLUG, ensure_service_account
from tests.unit.accounts_in_memory import memory_accounts


@pytest.fixture
def accounts() -> Accounts:
    return memory_accounts()


async def test_it_is_made_once_and_is_a_user(accounts: Accounts):
    assert await ensure_service_account(accounts)
    account = await accounts.by_id(SERVICE_ID)
    assert account is not None
    assert (account.slug, account.roles) == (SERVICE_SLUG, ("user-svc:user",))
    assert await ensure_service_account(accounts)
    assert await accounts.by_id(SERVICE_ID) == account


async def test_nobody_can_log_in_to_it_or_take_its_name(accounts: Accounts):
    await ensure_service_account(accounts)
    for password in ("changeme", "no account has this password", "!"):
        with pytest.raises(WrongPassword):
            await accounts.login(slug=SERVICE_SLUG, password=password, address="")
    with pytest.raises(SlugTaken):
        await accounts.register(slug=SERVICE_SLUG, password="correct horse")


async def test_a_user_who_has_its_name_keeps_it_and_is_not_it(accounts: Accounts, caplog: pytest.LogCaptureFixture):
    user = await accounts.register(slug=SERVICE_SLUG, password="correct horse")
    with caplog.at_level(logging.WARNING):
        assert not await ensure_service_account(accounts)
    assert "have to name the user" in caplog.text
    assert await accounts.by_id(SERVICE_ID) is None
    assert await accounts.by_id(user.id) == user
