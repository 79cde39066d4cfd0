"""The client of the handle: objects out of JSON values, errors as exceptions, and calls that outlive the replica they went to."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable, Iterator
from contextlib import aclosing
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError
from ray.serve.exceptions import BackPressureError

from clients import handle as module
from clients.answer import Answer, Entry
from clients.errors import NotAllowed, NotDeployed, NotFound, Refused, ServiceFailed, Unavailable
from clients.handle import AsyncPromptHandle, PromptHandle, app_handle
from tests.unit.fake_handle import FakeHandle

DIED = ActorDiedError()


def prompt(status: str = "scheduled", **beside: Any) -> dict[str, Any]:
    return {
        "prompt": {"id": "p-1", "threadId": "t-1", "status": status, "modelId": "org/small", "prompt": "hi", "x": 1},
        **beside,
    }


DONE = prompt(
    "completed",
    responseMessage={
        "text": "Paris.",
        "fileIds": ["f-1"],
        "meta": {"finishReason": "stop", "promptTokens": 5, "completionTokens": 3},
    },
)


def entry(number: int, text: str) -> dict[str, Any]:
    return {"number": number, "kind": "content", "text": text}


END = {"number": 3, "kind": "end", "text": "!", "finishReason": "stop", "messageId": "m-1"}


class Service:
    """Answers calls with what the test has laid out, in turn; the last one again and again."""

    def __init__(self, **answers: list[Any]) -> None:
        self._answers = answers

    def __getattr__(self, method: str) -> Callable[..., Any]:
        if method.startswith("_"):
            raise AttributeError(method)

        def answer(*_: Any, **__: Any) -> Any:
            waiting = self._answers[method]
            said = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            if isinstance(said, BaseException):
                raise said
            return _items(said) if isinstance(said, list) else said

        return answer


def _items(laid_out: list[Any]) -> Iterator[Any]:
    for item in laid_out:
        if isinstance(item, BaseException):
            raise item
        yield item


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clients.patience._FIRST_S", 0.0)


def blocking(service: Service, **options: Any) -> tuple[PromptHandle, FakeHandle]:
    handle = FakeHandle(service)
    return PromptHandle(handle=handle, **options), handle


def test_a_submission_always_has_an_id_and_names_the_user() -> None:
    client, handle = blocking(Service(submit=[prompt()]), user="ada")
    answer = client.submit("hi")
    ((method, (body,), options),) = handle.log.made
    assert (method, body["prompt"], options) == ("submit", "hi", {"user": "ada"})
    assert body["id"].startswith("prom-")
    assert (answer.status, answer.is_final, answer.text) == ("scheduled", False, None)
    client.submit({"prompt": "hi", "id": "mine"})
    client.submit({"prompt": "hi", "ID": "mine"})
    assert [call[1][0].get("id") for call in handle.log.made[1:]] == ["mine", None]


def test_a_submission_to_a_replica_that_died_is_repeated_with_the_same_id() -> None:
    client, handle = blocking(Service(submit=[DIED, ActorUnavailableError("away", b"0" * 16), prompt()]))
    client.submit("hi")
    assert len({call[1][0]["id"] for call in handle.log.made}) == 1
    assert len(handle.log.made) == 3


def test_an_answer_is_what_the_service_said() -> None:
    client, handle = blocking(Service(submit=[prompt(isNew=False)], wait=[prompt("running"), DONE]))
    answer = client.ask("What is the capital of France?")
    assert answer == Answer(
        prompt_id="p-1",
        thread_id="t-1",
        status="completed",
        model_id="org/small",
        text="Paris.",
        file_ids=("f-1",),
        finish_reason="stop",
        prompt_tokens=5,
        completion_tokens=3,
        raw=DONE,
    )
    assert [call[0] for call in handle.log.made] == ["submit", "wait", "wait"]
    assert pickle.loads(pickle.dumps(answer)) == answer


def test_waiting_ends_with_its_time() -> None:
    client, handle = blocking(Service(wait=[prompt("running")]))
    assert client.wait("p-1", 0).status == "running"
    assert [call[2]["timeout_s"] for call in handle.log.made] == [0.0]


def test_cancel_says_the_status() -> None:
    client, _ = blocking(Service(cancel=[{"status": "canceled"}]))
    assert client.cancel("p-1") == "canceled"


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, Refused), (401, NotAllowed), (404, NotFound), (409, Refused), (413, Refused), (500, ServiceFailed)],
)
def test_an_error_is_an_exception_that_says_what_is_wrong(status: int, kind: type[Exception]) -> None:
    error = {
        "status": status,
        "message": "temperature: got 5, …",
        "field": "temperature",
        "value": "5",
        "allowed": "0 to 2",
    }
    client, handle = blocking(Service(submit=[{"error": error}]))
    with pytest.raises(kind) as refused:
        client.submit("hi")
    found: Any = refused.value
    assert type(found) is kind
    assert (found.field, found.value, found.allowed, found.status) == ("temperature", "5", "0 to 2", status)
    assert str(found) == "temperature: got 5, …"
    assert len(handle.log.made) == 1
    again = pickle.loads(pickle.dumps(found))
    assert (type(again), str(again), again.allowed) == (kind, str(found), "0 to 2")


def test_a_store_that_is_away_is_asked_again_and_then_given_up() -> None:
    away = {"error": {"status": 503, "message": "The store cannot be reached", "retryAfterS": 0}}
    client, _ = blocking(Service(submit=[away, prompt()]))
    assert client.submit("hi").status == "scheduled"
    client, handle = blocking(Service(submit=[away]), patience_s=0)
    with pytest.raises(Unavailable, match="The store cannot be reached"):
        client.submit("hi")
    assert len(handle.log.made) == 1


def test_pressure_is_waited_out() -> None:
    client, _ = blocking(Service(submit=[BackPressureError(5, 5, 503, 0.0), prompt()]))
    assert client.submit("hi").status == "scheduled"


def test_a_crash_of_the_service_is_one_line_and_not_its_traceback() -> None:
    crash = RayTaskError("submit", "Traceback …\nsecret prompt", ValueError("secret prompt"))
    client, handle = blocking(Service(submit=[crash.as_instanceof_cause()]))
    with pytest.raises(ServiceFailed) as failed:
        client.submit("hi")
    assert str(failed.value) == "the service failed with ValueError; is it another version?"
    assert failed.value.__cause__ is None
    assert failed.value.__suppress_context__
    assert len(handle.log.made) == 1


@pytest.mark.parametrize("said", [None, "yes", [], {"prompt": 1}, {"prompts": []}])
def test_an_answer_that_makes_no_sense_is_said_to_make_none(said: Any) -> None:
    class Other:
        def submit(self, *_: Any, **__: Any) -> Any:
            return said

    with pytest.raises(ServiceFailed, match="version"):
        PromptHandle(handle=FakeHandle(Other())).submit("hi")


def test_a_stream_yields_the_entries_to_the_end() -> None:
    client, handle = blocking(Service(stream=[[entry(1, "Pa"), entry(2, "ris"), END]]), user="usr-1")
    entries = list(client.stream("p-1"))
    assert "".join(found.text for found in entries) == "Paris!"
    assert [found.is_end for found in entries] == [False, False, True]
    last = Entry(number=3, kind="end", text="!", finish_reason="stop", message_id="m-1", raw=END)
    assert entries[-1] == last
    assert handle.log.made == [("stream", ("p-1",), {"user": "usr-1", "after": 0})]
    assert handle.log.cancelled == 0


def test_a_stream_that_breaks_goes_on_behind_its_last_entry() -> None:
    broken = [[entry(1, "Pa"), DIED], [DIED], [entry(2, "ris"), ActorUnavailableError("away", b"0" * 16)], [END]]
    client, handle = blocking(Service(stream=broken))
    assert "".join(found.text for found in client.stream("p-1")) == "Paris!"
    assert [call[2]["after"] for call in handle.log.made] == [0, 1, 1, 2]


def test_a_stream_that_is_left_is_cancelled() -> None:
    client, handle = blocking(Service(stream=[[entry(1, "Pa"), entry(2, "ris"), END]]))
    stream = client.stream("p-1")
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert handle.log.cancelled == 1


def test_an_error_ends_a_stream() -> None:
    gone = {"error": {"status": 404, "message": "Not Found"}}
    client, _ = blocking(Service(stream=[[entry(1, "Pa"), gone]]))
    stream = client.stream("p-1")
    assert next(stream).text == "Pa"
    with pytest.raises(NotFound):
        next(stream)


async def test_the_asynchronous_client_does_the_same() -> None:
    away = {"error": {"status": 503, "message": "away"}}
    service = Service(
        submit=[DIED, prompt()],
        wait=[away, prompt("running"), DONE],
        cancel=[{"status": "completed"}],
        stream=[[entry(1, "Pa"), DIED], [entry(2, "ris"), END]],
    )
    handle = FakeHandle(service)
    client = AsyncPromptHandle(handle=handle, user="ada")
    assert (await client.ask("hi")).text == "Paris."
    assert await client.cancel("p-1") == "completed"
    assert "".join([found.text async for found in client.stream("p-1")]) == "Paris!"
    assert {call[2]["user"] for call in handle.log.made} == {"ada"}
    async with aclosing(client.stream("p-1")) as stream:
        await anext(stream)
    assert handle.log.cancelled == 1


async def test_a_call_whose_caller_leaves_is_cancelled() -> None:
    class Never:
        def wait(self, *_: Any, **__: Any) -> Any:
            return asyncio.Event().wait()

    handle = FakeHandle(Never())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await AsyncPromptHandle(handle=handle).wait("p-1")
    assert handle.log.cancelled == 1


def test_without_ray_none_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(NotDeployed, match=r"call ray\.init\(\) first"):
        app_handle("prompt-svc")
    with pytest.raises(NotDeployed):
        PromptHandle()


def test_an_application_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.serve.exceptions import RayServeException

    def missing(name: str) -> None:
        raise RayServeException(f"Application '{name}' does not exist.\nand more")

    monkeypatch.setattr("ray.is_initialized", lambda: True)
    monkeypatch.setattr("ray.serve.get_app_handle", missing)
    with pytest.raises(NotDeployed) as refused:
        module.app_handle("other")
    assert str(refused.value) == (
        "the application 'other' is not on this Ray cluster: Application 'other' does not exist."
    )
