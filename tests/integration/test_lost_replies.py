"""A call to the store whose reply is lost is sent again, and answers what it would have: nobody is told that the name they
just took is taken. (Prompts: test_queue_model.py. A removal says that there is nothing to remove then.)"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from argon2 import PasswordHasher
from redis.asyncio import Redis

from pipeline.accounts import Accounts, WrongPassword
from pipeline.files.record import FileLimits, new_file_id
from pipeline.passwords import Passwords
from pipeline.store import api_keys, pixel_sessions
from pipeline.store.account_keys import AccountKeys
from pipeline.store.accounts import RedisAccounts
from pipeline.store.api_keys import ApiKeyStore
from pipeline.store.chat_trees import ChatTreeStore, Outcome
from pipeline.store.connection import connect_impatient
from pipeline.store.files import FileIndex
from pipeline.store.keys import Keys
from pipeline.store.pixel_sessions import PixelSessions
from pipeline.store.prompts import PromptStore
from pipeline.store.threads import ThreadStore
from pipeline.store.tickets import TicketStore
from tests.integration.lossy_store import LossyStore, lossy_store

KEYS = Keys("test")
PASSWORD, OTHER = "correct horse battery", "staple battery horse"


@pytest.fixture
async def connected(redis_url: str) -> AsyncIterator[tuple[LossyStore, Redis]]:
    async with lossy_store(redis_url) as (lossy, url):
        client = connect_impatient(url)
        yield lossy, client
        await client.aclose()


@pytest.fixture
def lossy(connected: tuple[LossyStore, Redis]) -> LossyStore:
    return connected[0]


@pytest.fixture
def client(connected: tuple[LossyStore, Redis]) -> Redis:
    return connected[1]


@pytest.fixture
def accounts(client: Redis) -> Accounts:
    hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    return Accounts(RedisAccounts(client, AccountKeys("test")), Passwords(hasher, parallel=4))


async def test_a_user_registers(accounts: Accounts, lossy: LossyStore) -> None:
    draft = await accounts.draft(slug="alice", password=PASSWORD, name="", roles=())
    lossy.lose_next_reply()
    assert await accounts.store.create(draft)
    assert lossy.lost == 1
    assert await accounts.store.by_slug("alice") == draft
    assert await accounts.store.count() == 1
    rival = await accounts.draft(slug="alice", password=PASSWORD, name="", roles=())
    assert not await accounts.store.create(rival)


async def test_a_user_changes_their_password(accounts: Accounts, lossy: LossyStore) -> None:
    alice = await accounts.register(slug="alice", password=PASSWORD)
    new = await accounts.passwords.hash(OTHER)
    lossy.lose_next_reply()
    assert await accounts.store.replace_password(alice, new, 1.0)
    assert lossy.lost == 1
    assert await accounts.store.token_generation(alice.id) == 1
    assert await accounts.login(slug="alice", password=OTHER, address="")
    with pytest.raises(WrongPassword):
        await accounts.login(slug="alice", password=PASSWORD, address="")


async def test_the_last_api_key_is_made(client: Redis, lossy: LossyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_keys, "MOST_KEYS", 1)
    store = ApiKeyStore(client, KEYS)
    lossy.lose_next_reply()
    made = await store.create("digest", key_id="one", user_id="usr", name="n", prefix="p")
    assert lossy.lost == 1
    assert await store.of_user("usr") == [made]


async def test_the_last_insight_is_opened(client: Redis, lossy: LossyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_sessions, "MOST_INSIGHTS", 3)
    store = PixelSessions(client, KEYS)
    await store.open("digest", holder="usr", csrf="c")
    lossy.lose_next_reply()
    await store.open_insight("digest", "one")
    assert lossy.lost == 1
    assert await store.insights("digest") == ["one"]


async def test_a_chat_begins(client: Redis, lossy: LossyStore) -> None:
    store = ChatTreeStore(client, KEYS, ThreadStore(client, KEYS, PromptStore(client, KEYS)))
    await store.create("usr", "chat")
    lossy.lose_next_reply()
    outcome, message = await store.add_prompter("usr", "chat", "one", parent_id=None, content="hi", most_messages=10)
    assert lossy.lost == 1
    assert outcome is Outcome.ADDED
    assert [message] == await store.messages("usr", "chat")


async def test_a_download_takes_the_place_of_one(client: Redis, lossy: LossyStore) -> None:
    index = FileIndex(client, KEYS)
    limits = FileLimits(file_bytes=100, user_bytes=250, user_files=10)
    first, second = new_file_id(), new_file_id()
    for file_id in (first, second):
        await index.begin(file_id, "usr", limits, wanted=10, dead_after_s=60)
    await index.keep(first, "usr", name="a", content_type="b", size=1, url="http://x")
    lossy.lose_next_reply()
    kept, replaced = await index.keep(second, "usr", name="a", content_type="b", size=1, url="http://x")
    assert lossy.lost == 1
    assert replaced == first
    assert await index.get(second) == kept


async def test_a_stream_is_opened_with_a_ticket(client: Redis, lossy: LossyStore) -> None:
    store = TicketStore(client, KEYS)
    await store.issue("ticket", user_id="usr", holder="h")
    lossy.lose_next_reply()
    assert await store.redeem("ticket", stream="s", resumes=False) == "h"
    assert lossy.lost == 1
    assert await store.redeem("ticket", stream="s", resumes=False) is None
    assert await store.redeem("ticket", stream="other", resumes=True) is None
    assert await store.redeem("ticket", stream="s", resumes=True) == "h"
