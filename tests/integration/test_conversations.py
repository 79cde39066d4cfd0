"""Conversations on a real store: what a prompt's history is, and who waits for whom."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from pipeline.conversation import Said
from pipeline.delta import Delta, DeltaKind, FinishReason
from pipeline.errors import Conflict, NotFound, TooLarge
from pipeline.prompt import NewPrompt
from pipeline.states import Status
from pipeline.store.attempts import AttemptStore, Claimed
from pipeline.store.events import BEGINNING, EventLog
from pipeline.store.history import HistoryReader
from pipeline.store.keys import Keys
from pipeline.store.messages import MessageStore
from pipeline.store.prompts import PromptStore
from pipeline.store.queue import Grant, ModelQueue
from pipeline.store.threads import ThreadStore

USER = "ann"


class Store:
    """All of it, for one user, thread ``t`` and model ``m``."""

    def __init__(self, client: Redis) -> None:
        keys = Keys("test")
        self.keys = keys
        self.client = client
        self.prompts = PromptStore(client, keys)
        self.threads = ThreadStore(client, keys, self.prompts)
        self.messages = MessageStore(client, keys)
        self.queue = ModelQueue(client, keys, "m")
        self.attempts = AttemptStore(client, keys)
        self.history = HistoryReader(client, keys)

    async def accept(self, name: str, **changes: Any) -> str:
        new = NewPrompt(
            id=name, user_id=USER, thread_id="t", model_id="m", prompt=f"ask {name}", prompt_token_ids=(1, 2)
        )
        return (await self.prompts.accept(replace(new, **changes))).prompt.ref

    async def granted(self) -> list[str]:
        return [grant.ref.split("/")[1] for grant in await self.queue.grant(64, 100)]

    async def claim(self, grant: Grant) -> Claimed:
        return await self.attempts.claim(grant.ref, grant.fence, replica="r", lease_s=100, fingerprint="f")

    async def answer(self, text: str) -> str:
        """Grant the next prompt and complete it; returns its ref."""
        (grant,) = await self.queue.grant(1, 100)
        await self.claim(grant)
        end = Delta(kind=DeltaKind.END, finish_reason=FinishReason.STOP)
        assert await self.attempts.finish(
            grant.ref, grant.fence, message_id=f"msg-{text}", text=text, meta_json="{}", end=end
        )
        return grant.ref

    async def heard(self, *, most: int = 100) -> list[str]:
        """Grant the next prompt and read its history, ``most`` messages at a time; oldest first."""
        (grant,) = await self.queue.grant(1, 100)
        wanted = (await self.claim(grant)).history
        assert wanted is not None
        said: list[Said] = []
        before: int | None = wanted.place * 2 - 1
        while before is not None:
            page = await self.history.page(wanted.user_id, wanted.thread_id, before=before, most=most)
            said += page.said
            before = page.before
        return [f"{message.author}: {message.text}" for message in reversed(said)]

    async def listed(self, thread_id: str = "t") -> list[str]:
        return [message.text for message in (await self.messages.page(USER, thread_id, limit=100)).messages]


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    client = Redis.from_url(redis_url)
    store = Store(client)
    await store.attempts.register("m", "r", permits=64, node="n", lease_s=100)
    yield store
    await client.aclose()


@pytest.fixture
async def conversation(store: Store) -> Store:
    await store.threads.save(USER, "t", default_title="New chat")
    return store


async def test_prompts_of_a_conversation_run_one_after_another(conversation: Store) -> None:
    for name in ("a", "b", "c"):
        await conversation.accept(name)
    depth = await conversation.queue.depth()
    assert (depth.waiting, depth.blocked) == (1, 2)
    assert [p and p.status for p in await conversation.prompts.get_many([f"{USER}/b", f"{USER}/c"])] == [
        Status.SCHEDULED
    ] * 2
    await conversation.answer("one")
    depth = await conversation.queue.depth()
    assert (depth.waiting, depth.blocked) == (1, 1)
    assert await conversation.granted() == ["b"]


async def test_prompts_of_a_thread_that_a_prompt_made_run_together(store: Store) -> None:
    for name in ("a", "b"):
        await store.accept(name)
    assert await store.granted() == ["a", "b"]


async def test_a_prompt_says_otherwise_than_its_thread(conversation: Store) -> None:
    await conversation.accept("a")
    await conversation.accept("b", history=False)
    await conversation.accept("c")
    assert await conversation.granted() == ["a", "b"]
    await conversation.accept("x", thread_id="made by a prompt")
    await conversation.accept("y", thread_id="made by a prompt", history=True)
    assert await conversation.granted() == ["x"]


async def test_one_with_history_waits_for_those_without(conversation: Store) -> None:
    await conversation.accept("a", history=False)
    await conversation.accept("b", history=False)
    await conversation.accept("c")
    await conversation.answer("one")
    assert (await conversation.queue.depth()).blocked == 1
    await conversation.answer("two")
    assert await conversation.heard() == ["user: ask a", "assistant: one", "user: ask b", "assistant: two"]


@pytest.mark.parametrize("end", ["cancel", "abandon"])
async def test_one_that_ends_without_an_answer_neither_blocks_the_thread_nor_is_heard(
    conversation: Store, end: str
) -> None:
    for name in ("a", "b", "c"):
        await conversation.accept(name)
    await conversation.answer("one")
    (grant,) = await conversation.queue.grant(1, 100)
    if end == "cancel":
        await conversation.prompts.cancel(grant.ref)
    else:
        assert await conversation.attempts.abandon(grant.ref, grant.fence, error="broken")
    assert await conversation.heard() == ["user: ask a", "assistant: one"]
    assert await conversation.listed() == ["ask a", "one", "ask b", "ask c"]


async def test_one_that_waits_for_its_retry_keeps_the_next_one_waiting(conversation: Store) -> None:
    for name in ("a", "b"):
        await conversation.accept(name)
    (grant,) = await conversation.queue.grant(1, 100)
    assert await conversation.attempts.retry_later(grant.ref, grant.fence, error="oops", delay_s=100)
    assert await conversation.granted() == []


async def test_a_blocked_one_can_be_cancelled_and_erased(conversation: Store) -> None:
    refs = [await conversation.accept(name) for name in ("a", "b", "c")]
    assert await conversation.prompts.cancel(refs[1]) is Status.CANCELED
    assert await conversation.prompts.erase(refs[1])
    assert (await conversation.queue.depth()).blocked == 1
    await conversation.answer("one")
    assert await conversation.granted() == ["c"]
    depth = await conversation.queue.depth()
    assert (depth.waiting, depth.blocked) == (0, 0)


async def test_a_thread_goes_on_from_model_to_model(conversation: Store) -> None:
    other = ModelQueue(conversation.client, conversation.keys, "other")
    await conversation.attempts.register("other", "r2", permits=1, node="n", lease_s=100)
    await conversation.accept("a")
    await conversation.accept("b", model_id="other")
    pubsub = conversation.client.pubsub()
    await pubsub.subscribe(conversation.keys.wake("other"))
    assert (await pubsub.get_message(timeout=10))["type"] == "subscribe"  # type: ignore[index]
    assert (await other.depth()).blocked == 1
    await conversation.answer("one")
    assert (await pubsub.get_message(timeout=10))["type"] == "message"  # type: ignore[index]
    assert [grant.ref for grant in await other.grant(1, 100)] == [f"{USER}/b"]
    await pubsub.aclose()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(("most", "most_bytes"), [(1, 1000), (2, 1000), (3, 1000), (100, 1000), (100, 10)])
async def test_history_is_all_that_was_said_before_in_the_threads_order(
    conversation: Store, most: int, most_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.store.history.MOST_PAGE_BYTES", most_bytes)
    await conversation.messages.save(USER, "t", "hello", text="Welcome", is_answer=True)
    await conversation.accept("a")
    await conversation.accept("b")
    await conversation.messages.save(USER, "t", "note", text="a note")
    await conversation.accept("c")
    await conversation.messages.save(USER, "t", "later", text="later")
    await conversation.answer("one")
    await conversation.prompts.cancel(f"{USER}/b")
    assert await conversation.heard(most=most) == [
        "assistant: Welcome",
        "user: ask a",
        "assistant: one",
        "user: a note",
    ]
    assert await conversation.listed() == ["Welcome", "ask a", "one", "ask b", "a note", "ask c", "later"]


async def test_what_is_deleted_is_not_heard(conversation: Store) -> None:
    for name in ("a", "b", "c"):
        await conversation.accept(name)
    await conversation.answer("one")
    await conversation.answer("two")
    await conversation.prompts.erase(f"{USER}/a")
    await conversation.messages.delete(USER, "msg-two")
    assert await conversation.heard() == []


async def test_the_rendered_prompt_is_kept_under_the_fence(conversation: Store) -> None:
    await conversation.accept("a")
    (grant,) = await conversation.queue.grant(1, 100)
    claimed = await conversation.claim(grant)
    assert claimed.history is not None
    assert claimed.prompt_token_ids == (1, 2)
    assert not await conversation.attempts.keep_rendered(grant.ref, grant.fence + 1, (9,))
    assert await conversation.attempts.keep_rendered(grant.ref, grant.fence, (7, 8, 9))
    assert await conversation.queue.lose(grant.ref, grant.fence, ["n"])
    await conversation.attempts.register("m", "r", permits=64, node="n", lease_s=100)
    (again,) = await conversation.queue.grant(1, 100)
    claimed = await conversation.claim(again)
    assert (claimed.history, claimed.prompt_token_ids) == (None, (7, 8, 9))


async def test_a_thread_is_made_listed_changed_and_deleted(store: Store) -> None:
    made = await store.threads.save(USER, "t", default_title="New chat")
    assert (made.title, made.is_conversation, made.topic_ids) == ("New chat", True, ())
    await store.accept("a", thread_id="by a prompt")
    changed = await store.threads.save(USER, "t", default_title="New chat", title="Mine", topic_ids=["x"])
    assert (changed.title, changed.topic_ids, changed.created_us) == ("Mine", ("x",), made.created_us)
    assert changed.updated_us > made.updated_us
    assert changed == await store.threads.get(USER, "t")
    page = await store.threads.page(USER, limit=10)
    assert [(thread.id, thread.is_conversation) for thread in page] == [("by a prompt", False), ("t", True)]
    first = await store.threads.page(USER, limit=1)
    assert [t.id for t in await store.threads.page(USER, limit=1, after_us=first[0].created_us)] == ["t"]
    assert await store.threads.page("bob", limit=10) == []
    await store.threads.delete(USER, "t")
    for user in (USER, "bob"):
        with pytest.raises(NotFound):
            await store.threads.get(user, "t")
    assert [thread.id for thread in await store.threads.page(USER, limit=10)] == ["by a prompt"]


async def test_deleting_a_thread_ends_its_prompts_and_leaves_nothing(conversation: Store) -> None:
    for number in range(120):
        await conversation.messages.save(USER, "t", f"m{number}", text="canary by hand")
    refs = [await conversation.accept(f"p{number}", prompt=f"canary {number}") for number in range(110)]
    await conversation.answer("canary answer")
    (grant,) = await conversation.queue.grant(1, 100)
    claimed = await conversation.claim(grant)
    assert await conversation.attempts.append([(grant.ref, grant.fence, claimed.entries + 1, Delta(text="canary"))])

    await conversation.threads.delete(USER, "t")

    assert await conversation.prompts.get_many(refs) == [None] * len(refs)
    depth = await conversation.queue.depth()
    assert (depth.waiting, depth.blocked, depth.leased) == (0, 0, 0)
    end = Delta(kind=DeltaKind.END, finish_reason=FinishReason.STOP)
    assert not await conversation.attempts.finish(
        grant.ref, grant.fence, message_id="msg-late", text="late", meta_json="{}", end=end
    )
    left = {key.decode().split(":", 1)[1] async for key in conversation.client.scan_iter("*")}
    # The count of places stays for a week.
    assert await conversation.client.hkeys(conversation.keys.thread(f"{USER}/t")) == [b"place"]  # type: ignore[misc]
    assert left == {
        f"t:{USER}/t",
        "q-stats:m",
        "q-replicas:m",
        "q-permits:m",
        "q-nodes:m",
        "models",
        "seq",
        "fence",
    }
    with pytest.raises(NotFound):
        await conversation.threads.delete(USER, "t")


async def test_a_conversation_stays_when_its_prompts_are_erased_and_keeps_its_title(conversation: Store) -> None:
    await conversation.threads.save(USER, "t", default_title="", title="ask")
    ref = await conversation.accept("a")
    await conversation.answer("one")
    assert await conversation.prompts.erase(ref)
    thread = await conversation.threads.get(USER, "t")
    assert (thread.title, thread.is_conversation) == ("ask", True)
    assert await conversation.listed() == []


async def test_a_thread_that_a_prompt_made_goes_with_its_last_message(store: Store) -> None:
    ref = await store.accept("a")
    await store.messages.save(USER, "t", "note", text="a note")
    await store.prompts.cancel(ref)
    assert await store.prompts.erase(ref)
    assert (await store.threads.get(USER, "t")).title == ""
    await store.messages.delete(USER, "note")
    with pytest.raises(NotFound):
        await store.threads.get(USER, "t")


async def test_messages_need_a_thread_of_the_users_own(conversation: Store) -> None:
    for user, thread in ((USER, "none"), ("bob", "t")):
        with pytest.raises(NotFound):
            await conversation.messages.save(user, thread, "x", text="hi")
    await conversation.messages.save(USER, "t", "x", text="hi", file_ids=["file-1"], meta={"a": 1})
    message = await conversation.messages.get(USER, "x")
    assert message is not None
    assert (message.user_id, message.file_ids, message.meta) == (USER, ("file-1",), {"a": 1})
    assert await conversation.messages.get("bob", "x") is None
    with pytest.raises(NotFound):
        await conversation.messages.delete("bob", "x")


async def test_a_message_is_replaced_where_it_stands(conversation: Store) -> None:
    await conversation.messages.save(USER, "t", "x", text="hi", file_ids=["file-1"], meta={"a": 1})
    await conversation.messages.save(USER, "t", "y", text="there")
    await conversation.messages.save(USER, "t", "x", text="hello", is_answer=True)
    assert await conversation.listed() == ["hello", "there"]
    message = await conversation.messages.get(USER, "x")
    assert message is not None
    assert (message.user_id, message.file_ids, message.meta) == ("", (), None)
    assert message.updated_us > message.created_us
    await conversation.threads.save(USER, "other", default_title="")
    with pytest.raises(Conflict):
        await conversation.messages.save(USER, "other", "x", text="moved")


async def test_a_prompts_message_keeps_its_author_and_goes_with_the_prompt(conversation: Store) -> None:
    ref = await conversation.accept("a")
    await conversation.answer("one")
    await conversation.messages.save(USER, "t", "a", text="edited", is_answer=True)
    await conversation.messages.save(USER, "t", "msg-one", text="better")
    found = await conversation.messages.get_many(USER, ["a", "msg-one"])
    assert [(m and m.user_id, m and m.text) for m in found] == [(USER, "edited"), ("", "better")]
    await conversation.accept("b")
    assert await conversation.heard() == ["user: edited", "assistant: better"]
    assert await conversation.prompts.erase(ref)
    assert await conversation.listed() == ["ask b"]


async def test_ids_of_prompts_and_of_messages_by_hand_do_not_meet(conversation: Store) -> None:
    await conversation.messages.save(USER, "t", "a", text="by hand")
    with pytest.raises(Conflict, match="id: a chat message has this id"):
        await conversation.accept("a")
    assert await conversation.listed() == ["by hand"]
    assert await conversation.prompts.get(USER, "a") is None


async def test_pages_of_messages_have_no_gaps_and_end_early_when_they_are_long(
    conversation: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(7):
        await conversation.messages.save(USER, "t", f"m{number}", text=f"{number}" * 10)

    async def pages(limit: int) -> list[int]:
        seen: list[str] = []
        lengths = []
        after = None
        while True:
            page = await conversation.messages.page(USER, "t", limit=limit, after=after)
            seen += [message.id for message in page.messages]
            lengths.append(len(page.messages))
            if page.after is None:
                assert seen == [f"m{number}" for number in range(7)]
                return lengths
            after = page.after

    assert await pages(7) == [7]
    assert await pages(3) == [3, 3, 1]
    monkeypatch.setattr("pipeline.store.messages.MOST_PAGE_BYTES", 20)
    assert await pages(7) == [2, 2, 2, 1]
    monkeypatch.setattr("pipeline.store.messages.MOST_PAGE_BYTES", 5)
    assert await pages(7) == [1] * 7


async def test_messages_by_id_that_are_too_long_together_are_refused(
    conversation: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.store.messages.MOST_PAGE_BYTES", 20)
    for number in range(3):
        await conversation.messages.save(USER, "t", f"m{number}", text="x" * 10)
    found = await conversation.messages.by_ids(USER, ["m2", "none", "m0"])
    assert [message.id for message in found] == ["m2", "m0"]
    with pytest.raises(TooLarge, match="ids: these messages are longer than 20 bytes together"):
        await conversation.messages.by_ids(USER, ["m0", "m1", "m2"])


async def test_every_change_of_a_users_chat_is_an_event_for_them_alone(store: Store) -> None:
    events = EventLog(store.client, store.keys)
    for user in (USER, "bob"):
        await events.listen(user)
    await store.threads.save(USER, "t", default_title="New chat")
    await store.threads.save(USER, "t", default_title="New chat", title="x")
    await store.accept("a", thread_id="made by a prompt")
    await store.answer("one")
    await store.messages.save(USER, "t", "x", text="hi")
    told = [(event.name, event.data) for event in await events.behind(USER, BEGINNING)]
    assert [(name, data["threadId"]) for name, data in told if name.startswith("chat")] == [
        ("chatThreadAdded", "t"),
        ("chatThreadUpdate", "t"),
        ("chatThreadAdded", "made by a prompt"),
        ("chatMessageAdded", "made by a prompt"),
        ("chatMessageAdded", "made by a prompt"),
        ("chatMessageAdded", "t"),
    ]
    assert await events.behind("bob", BEGINNING) == []


async def test_what_is_refused_is_no_event(conversation: Store) -> None:
    events = EventLog(conversation.client, conversation.keys)
    await events.listen(USER)
    await conversation.messages.save(USER, "t", "x", text="hi")
    await conversation.threads.save(USER, "other", default_title="")
    with pytest.raises(Conflict):
        await conversation.messages.save(USER, "other", "x", text="moved")
    with pytest.raises(NotFound):
        await conversation.messages.save(USER, "none", "y", text="hi")
    with pytest.raises(Conflict):
        await conversation.accept("x", thread_id="made by a prompt")
    names = [event.name for event in await events.behind(USER, BEGINNING)]
    assert names == ["chatMessageAdded", "chatThreadAdded"]
