"""The door of handle callers on a real store: whom they act for, what they may do, and that others' prompts stay others'."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from clients.errors import NotAllowed, NotFound, Refused, Unavailable
from clients.handle import AsyncPromptHandle
from pipeline.accounts import Account, Role
from pipeline.service_account import SERVICE_ID, ensure_service_account
from tests.integration.ingress_app import IngressApp, ingress_app
from tests.integration.model_worker import ModelWorker, working
from tests.unit.fake_handle import FakeHandle
from tests.unit.snapshot import check_json


class Deployment:
    """The methods of the Ingress, which only pass on."""

    def __init__(self, ingress: IngressApp) -> None:
        self._calls = ingress.calls

    def submit(self, body: Any, user: Any = None) -> Any:
        return self._calls.submit(body, user)

    def wait(self, prompt_id: Any, user: Any = None, timeout_s: Any = 30) -> Any:
        return self._calls.wait(prompt_id, user, timeout_s)

    def stream(self, prompt_id: Any, user: Any = None, after: Any = 0) -> Any:
        return self._calls.stream(prompt_id, user, after)

    def cancel(self, prompt_id: Any, user: Any = None) -> Any:
        return self._calls.cancel(prompt_id, user)


@pytest.fixture
async def ingress(redis_url: str) -> AsyncIterator[IngressApp]:
    async with ingress_app(redis_url) as app:
        await ensure_service_account(app.accounts)
        yield app


@pytest.fixture
async def ada(ingress: IngressApp) -> Account:
    return await ingress.user("ada")


@pytest.fixture
async def worker(redis_url: str) -> AsyncIterator[ModelWorker]:
    async with working(redis_url) as running:
        yield running


def client(ingress: IngressApp, user: str | None = None, **options: Any) -> AsyncPromptHandle:
    return AsyncPromptHandle(handle=FakeHandle(Deployment(ingress)), user=user, **{"patience_s": 0, **options})


async def test_a_prompt_is_answered_and_streamed(ingress: IngressApp, worker: ModelWorker):
    handle = client(ingress)
    submitted = await handle.submit({"prompt": "the capital of france", "id": "mine"})
    assert (submitted.prompt_id, submitted.is_new) == ("mine", True)
    answer = await handle.wait("mine", 10)
    assert (answer.status, answer.text) == ("completed", "THE CAPITAL OF FRANCE ")
    assert (answer.finish_reason, answer.completion_tokens, answer.model_id) == ("stop", 4, "org/small")
    entries = [entry async for entry in handle.stream("mine")]
    assert "".join(entry.text for entry in entries) == answer.text
    assert [entry.number for entry in entries] == [1, 2, 3, 4]
    assert entries[-1].message_id == answer.message_id
    assert [entry async for entry in handle.stream("mine", after=2)] == entries[2:]
    assert [entry async for entry in handle.stream("mine", after=4)] == []


async def test_a_stream_follows_an_answer_that_is_being_written(ingress: IngressApp, redis_url: str):
    handle = client(ingress)
    await handle.submit({"prompt": "one two three", "id": "mine"})
    stream = handle.stream("mine")
    first = asyncio.ensure_future(anext(stream))
    async with working(redis_url):
        assert (await asyncio.wait_for(first, 10)).text == "ONE "
        assert "".join([entry.text async for entry in stream]) == "TWO THREE "


async def test_the_same_id_again_is_the_same_prompt(ingress: IngressApp, worker: ModelWorker):
    handle = client(ingress)
    await handle.ask({"prompt": "hello", "id": "mine"}, 10)
    again = await handle.ask({"prompt": "something else", "id": "mine"}, 10)
    assert again.text == "HELLO "
    assert (await handle.submit({"prompt": "hello", "id": "mine"})).is_new is False
    assert worker.ran == [f"{SERVICE_ID}/mine"]


async def test_waiting_ends_with_its_time_and_says_where_a_prompt_stands(ingress: IngressApp):
    handle = client(ingress)
    await handle.submit({"prompt": "first", "id": "a"})
    assert (await handle.submit({"prompt": "second", "id": "b"})).queue_position == 2
    assert (await handle.wait("b", 0)).queue_position == 2
    waited = await handle.wait("b", 0.01)
    assert (waited.status, waited.is_final, waited.text) == ("scheduled", False, None)


async def test_cancel_ends_a_prompt_and_never_erases_one(ingress: IngressApp, worker: ModelWorker, redis_url: str):
    handle = client(ingress)
    await handle.ask({"prompt": "hello", "id": "done"}, 10)
    assert await handle.cancel("done") == "completed"
    assert (await handle.wait("done", 0)).text == "HELLO "
    worker.fails = lambda _: True
    failed = await handle.ask({"prompt": "hello", "id": "broken"}, 10)
    assert (failed.status, failed.error) == ("abandoned", "the engine gave up")


async def test_a_waiting_prompt_is_cancelled_and_its_stream_ends(ingress: IngressApp):
    handle = client(ingress)
    await handle.submit({"prompt": "hello", "id": "mine"})
    stream = asyncio.ensure_future(_entries(handle, "mine"))
    assert await handle.cancel("mine") == "canceled"
    assert await handle.cancel("mine") == "canceled"
    (end,) = await asyncio.wait_for(stream, 10)
    assert (end.kind, end.finish_reason) == ("end", "canceled")


async def _entries(handle: AsyncPromptHandle, prompt_id: str) -> list[Any]:
    return [entry async for entry in handle.stream(prompt_id)]


async def test_a_named_user_is_meant_by_slug_or_id_and_sees_it_over_http_too(ingress: IngressApp, ada: Account):
    await client(ingress, "ada").submit({"prompt": "hello", "id": "by slug"})
    await client(ingress, ada.id).submit({"prompt": "hello", "id": "by id"})
    for prompt_id in ("by slug", "by id"):
        found = await ingress.send("GET", f"/prompt-svc/prompt/{prompt_id}", as_=ada)
        assert found.json()["prompt"]["userId"] == ada.id


async def test_another_users_prompt_is_as_good_as_none(ingress: IngressApp, ada: Account):
    await client(ingress, "ada").submit({"prompt": "hello", "id": "hers"})
    handle = client(ingress)
    refused = []
    for prompt_id in ("hers", "nobodys"):
        for call in (handle.wait(prompt_id, 0), handle.cancel(prompt_id), _entries(handle, prompt_id)):
            with pytest.raises(NotFound) as found:
                await call
            refused.append((str(found.value), found.value.status))
    assert set(refused) == {("Not Found", 404)}
    assert (await client(ingress, "ada").wait("hers", 0)).status == "scheduled"


@pytest.mark.parametrize("user", ["nobody", "usr-nobody", "", "No Slug", "x" * 300])
async def test_a_user_who_does_not_exist_is_refused(ingress: IngressApp, user: str):
    handle = client(ingress, user)
    for call in (handle.submit("hello"), handle.wait("p", 0), handle.cancel("p"), _entries(handle, "p")):
        with pytest.raises(Refused, match=r"user: got '.*, allowed is the slug or id of a registered user") as refused:
            await call
        assert refused.value.field == "user"


async def test_without_a_service_account_the_user_has_to_be_named(redis_url: str):
    async with ingress_app(redis_url) as ingress:
        await ingress.user("service-job")
        assert not await ensure_service_account(ingress.accounts)
        with pytest.raises(Refused, match=r"user: got nothing, .* service-job is somebody's"):
            await client(ingress).submit("hello")
        assert (await client(ingress, "service-job").submit("hello")).status == "scheduled"


async def test_a_call_may_do_what_its_user_may(redis_url: str):
    async with ingress_app(redis_url, default_grants=["prompt-svc:prompt:view"]) as ingress:
        await ingress.user("ada")
        await ingress.user("boss", Role.ADMIN, Role.USER)
        handle = client(ingress, "ada")
        with pytest.raises(NotAllowed, match="user: ada lacks the permission prompt-svc:prompt:create") as refused:
            await handle.submit("hello")
        assert refused.value.status == 401
        with pytest.raises(NotAllowed, match="prompt-svc:prompt:delete"):
            await handle.cancel("p")
        with pytest.raises(NotAllowed, match="prompt-svc:prompt:stream"):
            await _entries(handle, "p")
        with pytest.raises(NotFound):
            await handle.wait("p", 0)
        assert (await client(ingress, "boss").submit({"prompt": "hello", "priority": 10})).status == "scheduled"


@pytest.mark.parametrize(
    ("body", "field", "allowed"),
    [
        ({"prompt": " "}, "prompt", "a string that is not blank"),
        ({"prompt": "hi", "priority": 5}, "priority", None),
        ({"prompt": "hi", "modelId": "org/none"}, "modelId", None),
        (
            {"prompt": "hi", "parameters": {"textToText": {"temperature": 5}}},
            "parameters.textToText.temperature",
            "a number from 0 to 2",
        ),
        ({"prompt": "hi", "id": {1, 2}}, "body", "an object of JSON values"),
        ({"prompt": "hi", 7: 1}, "body", "an object of JSON values"),
        ({"prompt": "half \ud83d of it"}, "body", "an object of JSON values"),
    ],
)
async def test_a_wrong_field_is_named_with_what_is_allowed(
    ingress: IngressApp, body: dict[str, Any], field: str, allowed: str | None
):
    with pytest.raises(Refused) as refused:
        await client(ingress).submit(body)
    assert (refused.value.field, refused.value.status) == (field, 400)
    assert refused.value.allowed
    assert allowed is None or refused.value.allowed.startswith(allowed)
    assert "half" not in str(refused.value)


async def test_a_body_has_the_bounds_of_http(ingress: IngressApp):
    handle = client(ingress)
    for body, status, message in (
        ({"prompt": "x" * 1024 * 1024}, 413, "too large, allowed are 1048576 bytes"),
        ({"prompt": "nul \0 inside"}, 400, "prompt: NUL characters are not allowed"),
        ({"prompt": "hi", "parameters": _nested(80)}, 400, "nested deeper than 64 levels"),
        ({"prompt": "tok " * 300}, 400, "prompt: got"),
    ):
        with pytest.raises(Refused, match=message) as refused:
            await handle.submit(body)
        assert refused.value.status == status


def _nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("method", "arguments", "field"),
    [
        ("submit", (None, None), "body"),
        ("submit", ("hi", None), "body"),
        ("submit", ({"prompt": "hi"}, 7), "user"),
        ("wait", (7, None, 0), "prompt_id"),
        ("wait", ("", None, 0), "prompt_id"),
        ("wait", ("x" * 257, None, 0), "prompt_id"),
        ("wait", ("p", None, "soon"), "timeout_s"),
        ("wait", ("p", None, -1), "timeout_s"),
        ("wait", ("p", None, float("nan")), "timeout_s"),
        ("wait", ("p", None, float("inf")), "timeout_s"),
        ("cancel", (None, None), "prompt_id"),
    ],
)
async def test_arguments_of_the_wrong_kind_are_named(
    ingress: IngressApp, method: str, arguments: tuple[Any, ...], field: str
):
    said = await getattr(ingress.calls, method)(*arguments)
    assert (said["error"]["status"], said["error"]["field"]) == (400, field)


@pytest.mark.parametrize("after", [-1, "1", 1.5, None, True])
async def test_a_stream_goes_on_behind_a_number_only(ingress: IngressApp, after: Any):
    (said,) = [item async for item in ingress.calls.stream("p", None, after)]
    assert said["error"]["field"] == "after"


async def test_a_prompt_that_is_erased_meanwhile_ends_its_stream_as_not_found(ingress: IngressApp, ada: Account):
    handle = client(ingress, "ada")
    await handle.submit({"prompt": "hello", "id": "mine"})
    await handle.cancel("mine")
    stream = handle.stream("mine", after=1)
    # Cancelled, it is erased by the next DELETE; its reader is behind its end then.
    assert (await ingress.send("DELETE", "/prompt-svc/prompt/mine", as_=ada)).status_code == 200
    with pytest.raises(NotFound):
        await anext(stream)


async def test_a_store_that_is_away_is_said_to_be(ingress: IngressApp, redis_url: str):
    handle = client(ingress)
    async with Redis.from_url(redis_url) as store:
        # As good as away for whoever writes: it takes nothing more.
        await store.config_set("maxmemory", "1")
        try:
            with pytest.raises(Unavailable) as away:
                await handle.submit("hello")
        finally:
            await store.config_set("maxmemory", "0")
    assert (away.value.status, away.value.retry_after_s) == (503, 2.0)


async def test_a_failure_nobody_meant_is_told_without_its_text(
    ingress: IngressApp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    # The log has the lines of the code, so the text is not in this one.
    text = "the " + "secret prompt"

    async def fail(*_: Any) -> None:
        raise RuntimeError(text)

    monkeypatch.setattr(ingress.calls._service, "submit", fail)
    said = await ingress.calls.submit({"prompt": "hi"}, None)
    assert said == {"error": {"status": 500, "message": "Internal Server Error"}}
    assert "handle call submit failed: RuntimeError" in caplog.text
    assert text not in caplog.text


async def test_what_crosses_the_handle(ingress: IngressApp, worker: ModelWorker, redis_url: str):
    """Plain JSON values, whose keys other versions of the client know."""
    calls = ingress.calls
    said = {
        "submit": await calls.submit({"prompt": "hello you", "id": "mine", "parameters": {"textToText": {}}}, None),
        "wait": await calls.wait("mine", None, 10),
        "stream": [item async for item in calls.stream("mine", None, 0)],
        "cancel": await calls.cancel("mine", None),
        "error": await calls.submit({"prompt": "hi", "priority": 11}, None),
    }
    said["submit"]["prompt"].pop("status")
    said["submit"].pop("queuePosition", None)
    check_json("handle", _steady(said))


def _steady(value: Any) -> Any:
    """Without times and made-up ids."""
    if isinstance(value, dict):
        volatile = {"createdAt", "updatedAt", "lastRun", "responseMessageId", "messageId"}
        return {
            key: "…" if key in volatile or (key == "id" and str(item).startswith("msg-")) else _steady(item)
            for key, item in value.items()
        }
    return [_steady(item) for item in value] if isinstance(value, list) else value
