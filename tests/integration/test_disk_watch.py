"""A disk that is nearly full: what would fill it is refused, what was accepted goes on, and there is a way back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from deployments.local import disk_watch
from deployments.local.disk_watch import DiskWatch
from deployments.local.valkey import EmbeddedValkey
from pipeline.accounts import Account
from pipeline.errors import StoreFull
from pipeline.files.record import FileLimits, new_file_id
from pipeline.states import Status
from pipeline.store.chat_trees import ChatTreeStore, Outcome
from pipeline.store.files import FileIndex
from pipeline.store.keys import Keys
from pipeline.store.threads import ThreadStore
from tests.integration.ingress_app import IngressApp
from tests.integration.listing_store import Store

NAMESPACE = "list"
#: More than any disk has free.
HUGE = 1 << 62
LIMITS = FileLimits(file_bytes=1000, user_bytes=1000, user_files=10)


class Watched:
    """An embedded store, and what its watch says of a disk whose reserve the test chooses."""

    def __init__(self, server: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server = server
        self.said: list[str] = []
        self._monkeypatch = monkeypatch
        self._watch = DiskWatch(server, NAMESPACE, self.said.append)
        monkeypatch.setattr(disk_watch, "LOOK_S", 0)

    def look(self, *, reserve_bytes: int = 0, margin_bytes: int = 0) -> None:
        self._monkeypatch.setattr(disk_watch, "RESERVE_BYTES", reserve_bytes)
        self._monkeypatch.setattr(disk_watch, "ENOUGH_BYTES", reserve_bytes)
        self._monkeypatch.setattr(disk_watch, "REWRITE_MARGIN_BYTES", margin_bytes)
        self._watch.look()

    def setting(self, name: str) -> str:
        with self.server.client() as client:
            return str(client.config_get(name)[name])


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    with EmbeddedValkey(tmp_path) as server:
        yield Watched(server, monkeypatch)


@pytest.fixture
async def store(watched: Watched) -> AsyncIterator[Store]:
    made = Store(watched.server.url, NAMESPACE)
    yield made
    await made.client.aclose()


async def test_new_prompts_and_uploads_are_refused_until_there_is_room_again(watched: Watched, store: Store) -> None:
    files = FileIndex(store.client, store.keys)
    await store.accept("ann", "before")
    watched.look(reserve_bytes=HUGE)
    with pytest.raises(StoreFull) as refused:
        await store.accept("ann", "meanwhile")
    assert (refused.value.status, refused.value.retry_after_s) == (503, 30.0)
    with pytest.raises(StoreFull):
        await files.begin(new_file_id(), "ann", LIMITS, wanted=1, dead_after_s=60)
    assert await store.prompts.get("ann", "meanwhile") is None
    watched.look(reserve_bytes=0)
    await store.accept("ann", "after")
    await files.begin(new_file_id(), "ann", LIMITS, wanted=1, dead_after_s=60)


async def test_what_was_accepted_goes_on_meanwhile(watched: Watched, store: Store) -> None:
    files = FileIndex(store.client, store.keys)
    for prompt_id in ("runs", "canceled"):
        await store.accept("ann", prompt_id)
    watched.look(reserve_bytes=HUGE)
    assert (await store.accept("ann", "runs")).status == Status.SCHEDULED  # sent again
    assert await store.run(1) == 1
    await store.prompts.cancel("ann/canceled")
    await files.begin_made(new_file_id(), "ann", LIMITS, size=1, dead_after_s=60)
    found = await store.prompts.get_many(["ann/runs", "ann/canceled"])
    assert [prompt and prompt.status for prompt in found] == [Status.COMPLETED, Status.CANCELED]


async def test_chats_take_answers_and_nothing_else_meanwhile(watched: Watched, store: Store) -> None:
    chats = ChatTreeStore(store.client, store.keys, ThreadStore(store.client, store.keys, store.prompts))
    await chats.create("ann", "chat")

    async def say(message_id: str, parent_id: str | None) -> Outcome:
        return (
            await chats.add_prompter("ann", "chat", message_id, parent_id=parent_id, content="Hi", most_messages=10)
        )[0]

    await say("said", None)
    watched.look(reserve_bytes=HUGE)
    with pytest.raises(StoreFull):
        await say("more", "answer")
    assert await say("said", None) is Outcome.ADDED  # sent again
    answered, _ = await chats.add_assistant(
        "ann", "chat", "answer", parent_id="said", work_parameters={}, most_messages=10
    )
    assert answered is Outcome.ADDED
    assert await chats.count("ann", "chat") == 2


def test_the_console_hears_of_it_once_each_time(watched: Watched) -> None:
    watched.look(reserve_bytes=0)
    assert watched.said == []
    for _ in range(2):
        watched.look(reserve_bytes=HUGE)
    for _ in range(2):
        watched.look(reserve_bytes=0)
    full, room = watched.said
    assert "is nearly full" in full
    assert "has room again" in room


def test_the_file_is_not_written_anew_where_there_is_no_room_for_both(watched: Watched) -> None:
    watched.look(margin_bytes=HUGE)
    assert watched.setting("auto-aof-rewrite-percentage") == "0"
    # A store that was started anew knows nothing of it.
    watched.server.kill()
    watched.server.start()
    watched.look(margin_bytes=HUGE)
    assert watched.setting("auto-aof-rewrite-percentage") == "0"
    # On a nearly full disk it is the way out.
    watched.look(reserve_bytes=HUGE)
    assert watched.setting("auto-aof-rewrite-percentage") == "100"


def test_a_store_that_is_away_is_told_the_next_time(watched: Watched) -> None:
    watched.server.kill()
    watched.look(reserve_bytes=HUGE)
    assert watched.said == []
    watched.server.start()
    watched.look(reserve_bytes=HUGE)
    assert len(watched.said) == 1


async def test_clients_get_a_503_with_its_reason_and_when_to_come_again(
    replica: IngressApp, alice: Account, redis_url: str
) -> None:
    store = Store(redis_url)
    first = await replica.send("POST", "/prompt-svc/prompt", {"prompt": "Hi", "id": "p", "threadId": "t"}, as_=alice)
    assert first.status_code == 200
    await store.client.set(Keys("ps").full(), 1)
    await store.client.aclose()
    message = {"id": "m", "threadId": "t", "text": "Hi"}
    chat = (await replica.send("POST", "/chats", {}, as_=alice)).json()["id"]
    said = await replica.send(
        "POST", f"/chats/{chat}/prompter_message", {"content": "Hi", "parent_id": None}, as_=alice
    )
    assert (said.status_code, said.headers["retry-after"]) == (503, "30")
    for refused in (
        await replica.send("POST", "/prompt-svc/prompt", {"prompt": "Hi"}, as_=alice),
        await replica.send("POST", "/chat-svc/thread/t/message", message, as_=alice),
        await replica.upload(b"bytes", as_=alice),
    ):
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "30"
        assert refused.json() == {"error": "The disk of the store is nearly full; try again later."}
    listed = await replica.send("POST", "/prompt-svc/prompts", {}, as_=alice)
    assert [prompt["id"] for prompt in listed.json()["prompts"]] == ["p"]
