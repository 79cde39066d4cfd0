"""Open-Assistant's answers: as they are written, their states, and what the model is given of the chat."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from deployments.engines.scripted import ScriptedRenderer
from deployments.ingress.doors.open_assistant import events
from deployments.ingress.doors.open_assistant.answers import Answers
from deployments.ingress.doors.open_assistant.wire import Told
from pipeline.delta import Delta, DeltaKind, FinishReason
from pipeline.store.catalogue import CatalogueStore
from pipeline.store.connection import connect_patient
from pipeline.store.keys import Keys
from tests.integration.open_assistant_door import MODEL, SAMPLING, Door, User, events_in, open_door, settled
from tests.waiting import until, until_true


class Seen:
    """What the door has been seen doing."""

    def __init__(self) -> None:
        #: Ids of the answers whose streams have begun.
        self.begun: list[str] = []
        #: How often it was looked where an answer waits.
        self.looks = 0

    async def begin(self, user: User, chat: str, answer: str) -> asyncio.Task[httpx.Response]:
        """Open a stream; it has begun when this returns."""
        before = len(self.begun)
        task = asyncio.create_task(user.send("GET", f"/chats/{chat}/messages/{answer}/events"))
        await until(lambda: len(self.begun) > before)
        return task

    async def look(self) -> None:
        """Wait until it has been looked once more, twice to be sure that it was after this."""
        before = self.looks
        await until(lambda: self.looks >= before + 2)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    seen = Seen()
    respond, look = events.AnswerStream.response, Answers.place_in_queue

    def response(stream: events.AnswerStream, told: Told) -> Any:
        seen.begun.append(told.message.id)
        return respond(stream, told)

    async def place_in_queue(answers: Answers, told: Told) -> tuple[int, int]:
        seen.looks += 1
        return await look(answers, told)

    monkeypatch.setattr(events.AnswerStream, "response", response)
    monkeypatch.setattr(Answers, "place_in_queue", place_in_queue)
    monkeypatch.setattr(events, "PENDING_S", 0.02)
    return seen


@pytest.fixture
async def door(redis_url: str, seen: Seen) -> AsyncIterator[Door]:
    async with open_door(redis_url, models=[model(MODEL), model("org/large", context_tokens=4096)]) as door:
        yield door


def model(model_id: str, context_tokens: int = 256) -> dict[str, object]:
    return {"id": model_id, "engine": "scripted", "source": "none", "context_tokens": context_tokens}


@pytest.fixture
async def alice(door: Door) -> User:
    return await door.user("alice")


async def asked(user: User, question: str = "Hi") -> tuple[str, str, str]:
    chat = await user.chat()
    said = await user.say(chat, question)
    return chat, said, await user.ask(chat, said)


async def events_of(reading: asyncio.Task[httpx.Response]) -> list[dict[str, Any]]:
    """All of a stream, which ends soon."""
    answer = await settled(reading)
    assert answer.status_code == 200, answer.text
    return events_in(answer.text)


def kinds(stream: list[dict[str, Any]]) -> list[str]:
    """Types of the events, neighbours of one type as one."""
    found = [event["event_type"] for event in stream]
    return [kind for i, kind in enumerate(found) if i == 0 or found[i - 1] != kind]


def spoken(stream: list[dict[str, Any]]) -> str:
    return "".join(str(event["text"]) for event in stream if event["event_type"] == "token")


async def test_an_answer_whose_model_has_left_the_catalogue_is_pending_until_it_is_given_up(
    door: Door, alice: User, seen: Seen, redis_url: str
):
    chat = await alice.chat()
    answer = await alice.ask(chat, await alice.say(chat, "Hi"), model_config_name="org/large")
    async with open_door(redis_url, models=[model(MODEL)]) as next_deploy:
        reader = await next_deploy.user("alice")
        reading = await seen.begin(reader, chat, answer)
        await seen.look()
        assert await reader.state(chat, answer) == "pending"
        client, keys = connect_patient(redis_url), Keys("ps")
        await client.zadd(keys.models(), {"org/large": 1})
        assert await CatalogueStore(client, keys).close_departed("org/large") == 1
        stream = await events_of(reading)
        await client.aclose()
        assert {(event["queue_position"], event["queue_size"]) for event in stream[:-1]} == {(0, 0)}
        assert kinds(stream) == ["pending", "error"]
        assert await reader.state(chat, answer) == "aborted_by_worker"


async def test_an_answer_waits_is_written_and_is_complete(door: Door, alice: User, seen: Seen):
    chat, said, answer = await asked(alice)
    fresh = await alice.message(chat, answer)
    assert (fresh["state"], fresh["content"], fresh["parent_id"], fresh["role"]) == ("pending", None, said, "assistant")
    reading = await seen.begin(alice, chat, answer)
    attempt = await door.replica.take()
    assert await alice.state(chat, answer) == "in_progress"
    await door.replica.write(attempt, "Hel", "lo", "")
    await door.replica.finish(attempt, "Hello!", last="!")
    stream = await events_of(reading)
    assert [event for event in stream if event["event_type"] == "token"] == [
        {"event_type": "token", "text": text} for text in ("Hel", "lo", "!")
    ]
    assert stream[-1] == {"event_type": "message", "message": await alice.message(chat, answer)}
    assert stream[-1]["message"]["content"] == spoken(stream) == "Hello!"
    assert stream[-1]["message"]["state"] == "complete"


async def test_pending_says_where_it_waits_until_something_comes(door: Door, alice: User, seen: Seen):
    bob = await door.user("bob")
    _, _, first = await asked(bob)
    chat, _, answer = await asked(alice)
    reading = await seen.begin(alice, chat, answer)
    # Two others wait: one in front.
    await seen.look()
    attempt = await door.replica.take()
    assert attempt.ref.endswith(first)
    await door.replica.finish(attempt, "x", last="x")
    own = await door.replica.take()
    await seen.look()
    await door.replica.write(own, "Hello")
    await door.replica.finish(own, "Hello")
    stream = await events_of(reading)
    pending = [event for event in stream if event["event_type"] == "pending"]
    positions = [event["queue_position"] for event in pending]
    assert positions[0] == 2
    assert pending[0]["queue_size"] == 2
    assert positions == sorted(positions, reverse=True)
    assert pending[-1] == {"event_type": "pending", "queue_position": 0, "queue_size": 0}
    assert kinds(stream) == ["pending", "token", "message"]


async def test_an_event_is_one_line_for_every_reader_of_lines(door: Door, alice: User, seen: Seen):
    chat, _, answer = await asked(alice)
    attempt = await door.replica.take()
    reading = await seen.begin(alice, chat, answer)
    text = 'a\n\r\u2028\u2029\x85\x0b\x0c"🙂'
    await door.replica.write(attempt, text)
    await door.replica.finish(attempt, text)
    stream = (await settled(reading)).text
    assert all(line.startswith("data: {") for line in stream.splitlines() if line)
    assert spoken(events_in(stream)) == text


async def test_everybody_who_connects_gets_the_whole_answer(door: Door, alice: User, seen: Seen):
    chat, _, answer = await asked(alice)
    attempt = await door.replica.take()
    await door.replica.write(attempt, "Hel")
    readers = [await seen.begin(alice, chat, answer) for _ in range(2)]
    await door.replica.write(attempt, "lo")
    late = await seen.begin(alice, chat, answer)
    await door.replica.finish(attempt, "Hello")
    for reader in (*readers, late):
        assert spoken(await events_of(reader)) == "Hello"


async def test_a_reader_who_leaves_stops_nothing_and_is_not_followed(
    door: Door, alice: User, seen: Seen, redis_url: str
):
    client = connect_patient(redis_url)

    async def threads_heard() -> list[bytes]:
        # The nameless one keeps the connection.
        return [channel for channel in await client.pubsub_channels("ps:bell:*") if channel != b"ps:bell:"]

    chat, _, answer = await asked(alice)
    attempt = await door.replica.take()
    await door.replica.write(attempt, "Hel")
    reading = await seen.begin(alice, chat, answer)
    await until_true(lambda: _is(threads_heard, 1))
    reading.cancel()
    await asyncio.wait({reading})
    await until_true(lambda: _is(threads_heard, 0))
    await client.aclose()
    await door.replica.finish(attempt, "Hello", last="lo")
    assert await alice.state(chat, answer) == "complete"


async def _is(listed: Callable[[], Awaitable[list[bytes]]], count: int) -> bool:
    return len(await listed()) == count


async def test_what_is_there_already_is_not_streamed(door: Door, alice: User):
    chat, said, answer = await door.answered(alice)
    reply = await alice.send("GET", f"/chats/{chat}/messages/{answer}/events")
    assert (reply.status_code, reply.content) == (204, b"")
    reply = await alice.send("GET", f"/chats/{chat}/messages/{said}/events")
    assert (reply.status_code, reply.json()) == (400, {"detail": "Only assistant messages can be streamed."})
    reply = await alice.send("GET", f"/chats/{chat}/messages/unknown/events")
    assert (reply.status_code, reply.json()) == (404, {"detail": "Message not found"})


async def test_headers_of_a_stream(door: Door, alice: User, seen: Seen):
    chat, _, answer = await asked(alice)
    attempt = await door.replica.take()
    reading = await seen.begin(alice, chat, answer)
    await door.replica.finish(attempt, "x", last="x")
    reply = await settled(reading)
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert reply.headers["cache-control"] == "no-cache"
    assert reply.headers["x-accel-buffering"] == "no"
    assert "event:" not in reply.text
    assert "id:" not in reply.text.replace('"id":', "")


async def test_an_answer_that_fails_ends_in_an_error(door: Door, alice: User, seen: Seen):
    chat, _, answer = await asked(alice)
    reading = await seen.begin(alice, chat, answer)
    attempt = await door.replica.take()
    await door.replica.write(attempt, "Hel")
    await door.replica.fail(attempt)
    stream = await events_of(reading)
    message = await alice.message(chat, answer)
    assert stream[-1] == {"event_type": "error", "error": "Aborted due to worker error.", "message": message}
    assert (message["state"], message["content"]) == ("aborted_by_worker", None)
    assert (await alice.send("GET", f"/chats/{chat}/messages/{answer}/events")).status_code == 204


async def test_an_answer_that_waits_is_cancelled_by_the_next_question_of_its_chat(door: Door, alice: User, seen: Seen):
    chat, said, answered = await door.answered(alice)
    draft = await alice.ask(chat, said)
    elsewhere = await asked(alice)
    reading = await seen.begin(alice, chat, draft)
    # Another draft of the same answer spares it.
    sibling = await alice.ask(chat, said)
    assert await alice.state(chat, draft) == "pending"
    followed = await alice.say(chat, "And?", parent=answered)
    latest = await alice.ask(chat, followed)
    states = [await alice.state(chat, message) for message in (answered, draft, sibling, latest)]
    assert states == ["complete", "cancelled", "cancelled", "pending"]
    assert await alice.state(elsewhere[0], elsewhere[2]) == "pending", "another chat's"
    stream = await events_of(reading)
    assert (stream[-1]["event_type"], stream[-1]["error"]) == ("error", "The message was cancelled.")
    assert stream[-1]["message"]["state"] == "cancelled"
    # Who comes later is told at once.
    assert kinds(await alice.events(chat, draft)) == ["error"]


async def test_an_answer_that_runs_is_not_cancelled(door: Door, alice: User):
    chat, said, answered = await door.answered(alice)
    running = await alice.ask(chat, said)
    attempt = await door.replica.take()
    await alice.ask(chat, await alice.say(chat, "And?", parent=answered))
    await door.replica.finish(attempt, "Hello")
    assert await alice.state(chat, running) == "complete"


async def test_an_answer_that_begins_anew_is_never_said_twice(door: Door, alice: User, seen: Seen):
    chat, _, answer = await asked(alice)
    reading = await seen.begin(alice, chat, answer)
    attempt = await door.replica.take()
    await door.replica.write(attempt, "One two ")
    await door.replica.log(attempt, Delta(kind=DeltaKind.RESTART), Delta(text="One "), Delta(text="two three "))
    await door.replica.log(attempt, Delta(kind=DeltaKind.RESTART), Delta(text="Other"), Delta(text=" words"))
    await door.replica.finish(attempt, "Other words")
    stream = await events_of(reading)
    # The client has "One two three "; what follows is no continuation of that, so it only gets the whole.
    assert spoken(stream) == "One two three "
    assert stream[-1]["message"]["content"] == "Other words"


async def test_thoughts_and_other_choices_are_not_the_answer(door: Door, alice: User, seen: Seen):
    chat, _, answer = await asked(alice)
    attempt = await door.replica.take()
    reading = await seen.begin(alice, chat, answer)
    await door.replica.log(
        attempt, Delta(kind=DeltaKind.THINKING, text="hm"), Delta(text="other", choice=1), Delta(text="Hello")
    )
    await door.replica.finish(attempt, "Hello", reason=FinishReason.LENGTH)
    stream = await events_of(reading)
    assert spoken(stream) == "Hello"
    assert kinds(stream)[-1] == "message"


async def test_an_answer_that_its_user_removed_is_gone(door: Door, alice: User):
    chat, _, answer = await door.answered(alice)
    assert (await alice.send("DELETE", f"/prompt-svc/prompt/{answer}")).status_code == 200
    message = await alice.message(chat, answer)
    assert (message["state"], message["content"]) == ("cancelled", None)
    assert await alice.events(chat, answer) == [
        {"event_type": "error", "error": "The message was removed.", "message": message}
    ]
    # A branch goes on without what it said.
    followed = await alice.send("POST", f"/chats/{chat}/prompter_message", {"content": "And?", "parent_id": answer})
    assert followed.json() == {"detail": "Parent message is not complete"}


async def test_a_stream_ends_when_its_chat_is_deleted(door: Door, alice: User, seen: Seen):
    chat, _, answer = await asked(alice)
    reading = await seen.begin(alice, chat, answer)
    await alice.send("DELETE", f"/chats/{chat}")
    stream = await events_of(reading)
    assert (stream[-1]["event_type"], stream[-1]["message"]) == ("error", None)


async def test_the_model_is_given_the_branch_and_no_other(door: Door, alice: User):
    chat, said, first = await door.answered(alice, "Hi", "Hello")
    await alice.ask(chat, said)
    await door.replica.answer("Not this one")
    followed = await alice.say(chat, "And?", parent=first)
    await alice.ask(chat, followed, system_prompt="Be brief.", user_profile="A sailor.")
    attempt = await door.replica.take()
    assert attempt.prompt_token_ids == ScriptedRenderer().render_chat(
        [
            {"role": "system", "content": "Be brief.\n\nAbout the user: A sailor."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello"},
            {"role": "user", "content": "And?"},
        ]
    )


async def test_a_chat_longer_than_the_context_loses_its_beginning(door: Door, alice: User):
    chat, _, answer = await door.answered(alice, "first " * 10, "one")
    for turn in range(3):
        said = await alice.say(chat, f"{turn} " * 20, parent=answer)
        answer = await alice.ask(chat, said)
        attempt = await door.replica.take()
        assert len(attempt.prompt_token_ids) <= 128, "half of the context is the answer's"
        await door.replica.finish(attempt, f"answer {turn}", last=f"answer {turn}")
    assert b"first" not in bytes(i for i in attempt.prompt_token_ids if i < 256)
    assert b"answer 1" in bytes(i for i in attempt.prompt_token_ids if i < 256)
    chat, _, answer = await asked(alice, "x" * 1000 + "the end")
    attempt = await door.replica.take()
    text = bytes(i for i in attempt.prompt_token_ids if i < 256)
    assert text.endswith(b"xxthe end")
    assert len(attempt.prompt_token_ids) == 128


async def test_how_it_was_asked_is_kept_and_used(door: Door, alice: User):
    chat = await alice.chat()
    said = await alice.say(chat, "Hi")
    answer = await alice.ask(chat, said, sampling_parameters={**SAMPLING, "max_new_tokens": 7, "typical_p": 0.5})
    kept = (await alice.message(chat, answer))["work_parameters"]
    assert kept["sampling_parameters"] == {**SAMPLING, "max_new_tokens": 7, "typical_p": 0.5}
    assert kept["model_config"] == {
        "model_id": MODEL,
        "max_input_length": 249,
        "max_total_length": 256,
        "quantized": False,
    }
    sampling = (await door.replica.take()).sampling
    assert (sampling.max_tokens, sampling.top_k, sampling.top_p, sampling.temperature) == (7, 50, 0.95, 1.0)
    assert (sampling.repetition_penalty, sampling.seed) == (1.2, kept["seed"])
    answer = await alice.ask(chat, said, sampling_parameters={"max_new_tokens": None})
    assert (await alice.message(chat, answer))["work_parameters"]["sampling_parameters"]["max_new_tokens"] == 1024
    sampling = (await door.replica.take()).sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.repetition_penalty) == (1.0, 1.0, 0, 1.0)


async def test_an_answer_is_a_prompt_of_the_service(door: Door, alice: User):
    chat, _, answer = await asked(alice, "What is it?")
    (prompt,) = (await alice.json("POST", "/prompt-svc/prompts", {}))["prompts"]
    assert (prompt["id"], prompt["threadId"], prompt["prompt"]) == (answer, chat, "What is it?")
    assert (await alice.send("DELETE", f"/prompt-svc/prompt/{answer}")).status_code == 200
    assert await alice.state(chat, answer) == "cancelled"
