import asyncio

import pytest
from argon2 import PasswordHasher

from pipeline.accounts import ADMIN_SLUG, MAX_FAILURES, Accounts, Role, SlugTaken, WrongPassword
from pipeline.admin import DOCUMENTED_PASSWORD, AdminRefused, ensure_admin
from pipeline.errors import InvalidField, TooManyRequests
from pipeline.passwords import Passwords
from tests.unit.accounts_in_memory import cheap_hasher, memory_accounts

CANARY = "canary-pass-word"


@pytest.fixture
def accounts() -> Accounts:
    return memory_accounts()


async def test_who_registers_can_log_in(accounts: Accounts):
    registered = await accounts.register(slug="alice-2", password=CANARY, name="Alice")
    assert registered.roles == (Role.USER,)
    assert registered.id.startswith("usr-")
    assert CANARY not in registered.password_hash
    assert await accounts.login(slug="alice-2", password=CANARY, address="") == registered
    assert await accounts.by_id(registered.id) == registered


async def test_a_hash_is_not_shown_in_a_repr(accounts: Accounts):
    account = await accounts.register(slug="alice", password=CANARY)
    assert account.password_hash not in repr(account)


async def test_a_taken_slug_and_the_admins_are_refused(accounts: Accounts):
    await accounts.register(slug="alice", password=CANARY)
    for slug in ("alice", ADMIN_SLUG):
        with pytest.raises(SlugTaken) as refused:
            await accounts.register(slug=slug, password=CANARY)
        assert refused.value.status == 409


@pytest.mark.parametrize(
    "slug", ["", "A", "a_b", "-a", "a-", "a--b", "a b", "ä", "a\n", "a" * 65, "a/b", "\u0661", "a\0"]
)
async def test_a_slug_has_a_format(accounts: Accounts, slug: str):
    with pytest.raises(InvalidField, match="allowed is 1 to 64 lower-case letters") as refused:
        await accounts.register(slug=slug, password=CANARY)
    assert refused.value.message.isprintable()


@pytest.mark.parametrize("password", ["", "1234567", "x" * 1025])
async def test_a_password_has_a_length_and_is_not_shown(accounts: Accounts, password: str):
    with pytest.raises(InvalidField) as refused:
        await accounts.register(slug="alice", password=password)
    assert refused.value.message == f"password: got {len(password)} characters, allowed is 8 to 1024 characters"


async def test_an_unknown_slug_is_a_wrong_password_and_takes_a_hash_too(monkeypatch: pytest.MonkeyPatch):
    accounts = memory_accounts()
    await accounts.register(slug="alice", password=CANARY)
    verified = []
    verify = PasswordHasher.verify
    monkeypatch.setattr(PasswordHasher, "verify", lambda *args: verified.append(args) or verify(*args))
    for slug in ("alice", "nobody", "Not A Slug", "x" * 100_000):
        with pytest.raises(WrongPassword) as refused:
            await accounts.login(slug=slug, password="something else", address="")
        assert (refused.value.status, refused.value.message) == (401, "Invalid Password")
    assert len(verified) == 4


async def test_the_stand_in_password_opens_nothing(accounts: Accounts):
    with pytest.raises(WrongPassword):
        await accounts.login(slug="nobody", password="no account has this password", address="")


async def test_a_password_longer_than_any_is_not_hashed(accounts: Accounts):
    with pytest.raises(InvalidField):
        await accounts.login(slug="alice", password="x" * 1025, address="")


async def test_failed_logins_are_limited_per_slug_and_address(accounts: Accounts):
    await accounts.register(slug="alice", password=CANARY)

    async def guess(address: str) -> None:
        await accounts.login(slug="alice", password="a wrong one", address=address)

    for _ in range(MAX_FAILURES):
        with pytest.raises(WrongPassword):
            await guess("1.2.3.4")
    with pytest.raises(TooManyRequests) as refused:
        await accounts.login(slug="alice", password=CANARY, address="1.2.3.4")
    assert (refused.value.status, refused.value.retry_after_s) == (429, 60)
    with pytest.raises(WrongPassword):
        await guess("5.6.7.8")
    assert await accounts.login(slug="alice", password=CANARY, address="5.6.7.8")


async def test_a_successful_login_clears_the_count(accounts: Accounts):
    await accounts.register(slug="alice", password=CANARY)
    for _ in range(3):
        for _ in range(MAX_FAILURES - 1):
            with pytest.raises(WrongPassword):
                await accounts.login(slug="alice", password="a wrong one", address="")
        await accounts.login(slug="alice", password=CANARY, address="")


async def test_many_rightful_logins_at_once_are_not_taken_for_guesses(accounts: Accounts):
    await accounts.register(slug="alice", password=CANARY)
    logins = (accounts.login(slug="alice", password=CANARY, address="") for _ in range(40))
    assert len(await asyncio.gather(*logins)) == 40


async def test_hashing_has_a_bounded_queue():
    passwords = Passwords(cheap_hasher(), parallel=1, waiting=2)
    async with passwords.slot():
        waiting = [asyncio.create_task(passwords.hash("x")) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(TooManyRequests):
            await passwords.hash("x")
    assert len(await asyncio.gather(*waiting)) == 2
    passwords.close()


async def test_the_first_start_creates_the_admin_once(accounts: Accounts):
    admins = await asyncio.gather(*(ensure_admin(accounts, "", bound_to_loopback=True) for _ in range(4)))
    assert {admin.id for admin in admins} == {admins[0].id}
    assert admins[0].roles == (Role.ADMIN, Role.USER)
    login = await accounts.login(slug=ADMIN_SLUG, password=DOCUMENTED_PASSWORD, address="")
    assert login.id == admins[0].id


async def test_the_configured_password_is_the_admins(accounts: Accounts):
    await ensure_admin(accounts, CANARY, bound_to_loopback=False)
    assert await accounts.login(slug=ADMIN_SLUG, password=CANARY, address="")
    # A later start without the setting, or with another, changes nothing.
    await ensure_admin(accounts, "", bound_to_loopback=False)
    await ensure_admin(accounts, "another-password", bound_to_loopback=False)
    assert await accounts.login(slug=ADMIN_SLUG, password=CANARY, address="")


@pytest.mark.parametrize("password", ["", DOCUMENTED_PASSWORD, "short", "x" * 1025])
async def test_an_unsafe_password_does_not_leave_loopback(accounts: Accounts, password: str):
    with pytest.raises(AdminRefused, match="PROMPT_SVC_ADMIN_PASSWORD") as refused:
        await ensure_admin(accounts, password, bound_to_loopback=False)
    assert "\n" not in refused.value.message
    assert await accounts.store.by_slug(ADMIN_SLUG) is None


async def test_an_admin_that_kept_the_documented_password_does_not_leave_loopback(accounts: Accounts):
    await ensure_admin(accounts, "", bound_to_loopback=True)
    with pytest.raises(AdminRefused, match="PROMPT_SVC_ADMIN_PASSWORD"):
        await ensure_admin(accounts, "", bound_to_loopback=False)


async def test_what_the_refusal_says_helps(accounts: Accounts):
    before = await ensure_admin(accounts, "", bound_to_loopback=True)
    admins = await asyncio.gather(*(ensure_admin(accounts, CANARY, bound_to_loopback=False) for _ in range(2)))
    assert {admin.id for admin in admins} == {before.id}
    assert await accounts.login(slug=ADMIN_SLUG, password=CANARY, address="")
    with pytest.raises(WrongPassword):
        await accounts.login(slug=ADMIN_SLUG, password=DOCUMENTED_PASSWORD, address="")


async def test_a_user_in_the_admins_place_is_refused(accounts: Accounts):
    impostor = await accounts.draft(slug=ADMIN_SLUG, password=CANARY, name="", roles=(Role.USER,))
    await accounts.store.create(impostor)
    with pytest.raises(AdminRefused, match="not an admin"):
        await ensure_admin(accounts, "", bound_to_loopback=True)
