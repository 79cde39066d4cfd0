"""The OpenAI door with the official client, sync and async, on a real store and a scripted replica."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai.types import Completion, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from deployments.settings import ModelSpec
from pipeline.store.recent_calls import REMEMBERED_S
from tests.integration.scripted_service import ScriptedService, scripted_service
from tests.waiting import wait_for

SMALL, TOOLS, SLOW, BROKEN = "org/small", "org/tools", "org/slow", "org/broken"
HI: Any = [{"role": "user", "content": "Say hi"}]
PAINT: Any = {
    "type": "function",
    "function": {"name": "paint", "parameters": {"type": "object", "properties": {"colour": {"type": "string"}}}},
}


def model(model_id: str, *aliases: str, tool_parser: str | None = None, **options: Any) -> ModelSpec:
    return ModelSpec(
        id=model_id,
        aliases=aliases,
        engine="scripted",
        source="none",
        tool_parser=tool_parser,
        reasoning_parser=tool_parser,
        engine_args={"step_s": 0.0005, **options},
    )


@pytest.fixture(scope="module")
def service(valkey: str, _database_numbers: Iterator[int]) -> Iterator[ScriptedService]:
    url = f"{valkey.rsplit('/', 1)[0]}/{next(_database_numbers)}"
    with scripted_service(
        url,
        model(SMALL, "small"),
        model(TOOLS, tool_parser="tags", answer='[He wants paint.]Here: <paint {"colour": "blue 🚀"}>'),
        model(SLOW, step_s=0.02, answer_tokens=2000),
        model(BROKEN, fail_permanently=True, fail_after_tokens=3),
        sse_heartbeat_s=0.1,
        sync_wait_s=20,
    ) as running:
        yield running


@pytest.fixture
def client(service: ScriptedService) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key=service.token("alice")) as client:
        yield client


@pytest.fixture
def alice(service: ScriptedService) -> Iterator[httpx.Client]:
    with service.client("alice") as client:
        yield client


def strictly(kind: type[Any], value: Any) -> Any:
    """The value as the SDK's type, which it must fit without being bent: the SDK itself takes anything."""
    return kind.model_validate_json(json.dumps(value), strict=True)


def whole(client: openai.OpenAI, **more: Any) -> ChatCompletion:
    found = client.chat.completions.create(**{"model": SMALL, "messages": HI, **more})
    assert isinstance(found, ChatCompletion)
    return found


def streamed(client: openai.OpenAI, **more: Any) -> list[ChatCompletionChunk]:
    return list(client.chat.completions.create(**{"model": SMALL, "messages": HI, "stream": True, **more}))


def text_of(chunks: list[ChatCompletionChunk], index: int = 0) -> str:
    choices = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
    return "".join(choice.delta.content or "" for choice in choices)


def frames(answer: httpx.Response) -> list[Any]:
    """The data of a stream; every frame is one line of it and a blank one, or a comment."""
    found = []
    for part in answer.text.removesuffix("\n\n").split("\n\n"):
        if part.startswith(":"):
            continue
        assert part.startswith("data: "), part
        assert "\n" not in part
        found.append(part.removeprefix("data: "))
    assert found[-1] == "[DONE]"
    return [json.loads(data) for data in found[:-1]]


def post(client: httpx.Client, path: str, body: Any, **headers: str) -> httpx.Response:
    return client.post(f"/v1{path}", json=body, headers={name.replace("_", "-"): v for name, v in headers.items()})


def prompts(client: httpx.Client, **query: Any) -> list[Any]:
    """Prompts as Prompt Svc lists them."""
    answer = client.post("/prompt-svc/prompts", json={"query": query})
    assert answer.status_code == 200, answer.text
    found: list[Any] = answer.json()["prompts"]
    return found


def error_of(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["error"]
    error: dict[str, Any] = answer.json()["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert isinstance(error["message"], str)
    assert error["message"]
    return error


# -- models ---------------------------------------------------------------------------------------------------------------


def test_the_catalogue_is_listed_and_read_by_ids_with_slashes(client: openai.OpenAI, alice: httpx.Client):
    assert [found.id for found in client.models.list()] == [SMALL, TOOLS, SLOW, BROKEN]
    assert client.models.retrieve(SMALL).id == SMALL
    for path in ("org%2Fsmall", "org/small", "small"):
        assert strictly(Model, alice.get(f"/v1/models/{path}").json()).id == SMALL
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("org/none")
    assert caught.value.code == "model_not_found"


# -- chat -----------------------------------------------------------------------------------------------------------------


def test_a_chat_is_answered_and_counted(client: openai.OpenAI, alice: httpx.Client):
    answer = post(alice, "/chat/completions", {"model": "small", "messages": HI, "max_tokens": 12, "temperature": 0})
    found = strictly(ChatCompletion, answer.json())
    assert answer.headers["x-prompt-id"] == found.id
    assert int(answer.headers["openai-processing-ms"]) >= 0
    assert found.model == SMALL
    (choice,) = found.choices
    assert choice.message.content
    assert choice.finish_reason == "length"
    assert found.usage is not None
    assert (found.usage.completion_tokens, found.usage.total_tokens) == (12, found.usage.prompt_tokens + 12)
    assert abs(found.created - time.time()) < 60
    assert whole(client, max_tokens=12, temperature=0).choices[0].message.content == choice.message.content


def test_a_stream_says_the_same_in_chunks(client: openai.OpenAI, alice: httpx.Client):
    body = {"model": SMALL, "messages": HI, "stream": True, "stream_options": {"include_usage": True}}
    answer = post(alice, "/chat/completions", body)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    chunks = [strictly(ChatCompletionChunk, data) for data in frames(answer)]
    first, *middle, last, usage = chunks
    assert first.choices[0].delta.model_dump(exclude_unset=True) == {"role": "assistant", "content": ""}
    assert all(chunk.choices[0].finish_reason is None and chunk.usage is None for chunk in [first, *middle])
    assert last.choices[0].delta.model_dump(exclude_unset=True) == {}
    assert (usage.choices, last.choices[0].finish_reason) == ([], "stop")
    assert usage.usage == whole(client).usage
    assert {chunk.id for chunk in chunks} == {answer.headers["x-prompt-id"]}
    assert text_of(chunks) == text_of(streamed(client)) == whole(client).choices[0].message.content
    assert "usage" not in frames(post(alice, "/chat/completions", {**body, "stream_options": None}))[0]


async def test_the_async_client_gets_the_same(service: ScriptedService):
    async with openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key=service.token("alice")) as client:
        found = await client.chat.completions.create(model=SMALL, messages=HI)
        stream = await client.chat.completions.create(model=SMALL, messages=HI, stream=True)
        assert text_of([chunk async for chunk in stream]) == found.choices[0].message.content


def test_choices_are_prompts_of_their_own_under_one_id(client: openai.OpenAI, alice: httpx.Client):
    found = whole(client, n=3, seed=7)
    texts = [choice.message.content for choice in found.choices]
    assert [choice.index for choice in found.choices] == [0, 1, 2]
    assert len(set(texts)) == 3, "a seed of its own for each"
    chunks = streamed(client, n=3, seed=7, stream_options={"include_usage": True})
    assert [text_of(chunks, index) for index in range(3)] == texts
    assert [chunk.choices for chunk in chunks if chunk.usage] == [[]]
    assert chunks[-1].usage == found.usage
    assert found.usage is not None
    assert found.usage.prompt_tokens < 60, "they share a prompt, which counts once"
    ends = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert ends == ["stop"] * 3
    listed = prompts(alice, filters=[{"op": "equals", "fields": ["threadId"], "valuesJson": json.dumps([found.id])}])
    assert {prompt["id"] for prompt in listed} == {found.id, f"{found.id}-1", f"{found.id}-2"}


def test_stop_strings_end_the_answer_and_are_no_part_of_it(client: openai.OpenAI):
    text = whole(client).choices[0].message.content or ""
    stop = text[10:13]
    found = whole(client, stop=[stop, "never"]).choices[0]
    assert (found.message.content, found.finish_reason) == (text[: text.index(stop)], "stop")
    assert text_of(streamed(client, stop=stop)) == text[: text.index(stop)]


def test_thoughts_and_calls_of_tools_are_told_from_the_text(client: openai.OpenAI):
    found = whole(client, model=TOOLS, tools=[PAINT])
    message = found.choices[0].message
    assert (message.content, message.reasoning_content) == ("Here: ", "He wants paint.")  # type: ignore[attr-defined]
    (call,) = message.tool_calls or ()
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("paint", {"colour": "blue 🚀"})
    assert found.choices[0].finish_reason == "tool_calls"
    assert found.usage is not None
    assert found.usage.completion_tokens_details is not None
    assert found.usage.completion_tokens_details.reasoning_tokens

    chunks = streamed(client, model=TOOLS, tools=[PAINT])
    pieces = [piece for chunk in chunks for choice in chunk.choices for piece in choice.delta.tool_calls or ()]
    begun = pieces[0].model_dump(exclude_unset=True)
    assert begun.keys() == {"index", "id", "type", "function"}
    assert begun["function"].keys() == {"name", "arguments"}
    assert all(piece.id is None and piece.function.name is None for piece in pieces[1:])
    assert json.loads("".join(piece.function.arguments for piece in pieces)) == {"colour": "blue 🚀"}
    assert text_of(chunks) == "Here: "
    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] == ["tool_calls"]
    with client.chat.completions.stream(model=TOOLS, messages=HI, tools=[PAINT]) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.tool_calls[0].function.arguments == call.function.arguments  # type: ignore[index]


def test_a_chat_with_results_of_tools_goes_on(client: openai.OpenAI):
    call = {"id": "c1", "type": "function", "function": {"name": "paint", "arguments": '{"colour": "blue"}'}}
    messages: Any = [
        {"role": "developer", "content": [{"type": "text", "text": "Be"}, {"type": "text", "text": "brief"}]},
        *HI,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "done"},
    ]
    assert whole(client, messages=messages).choices[0].message.content


def test_a_generation_that_fails_is_an_error_that_nobody_retries(client: openai.OpenAI, alice: httpx.Client):
    answer = post(alice, "/chat/completions", {"model": BROKEN, "messages": HI})
    error = error_of(answer, 500)
    assert (error["type"], error["code"]) == ("server_error", "generation_failed")
    assert answer.headers["x-should-retry"] == "false"
    with pytest.raises(openai.APIError, match="scripted permanent failure"):
        streamed(client, model=BROKEN)


# -- what becomes of a call -----------------------------------------------------------------------------------------------


def waits_or_runs(alice: httpx.Client, prompt_id: str) -> bool:
    answer = alice.get(f"/prompt-svc/prompt/{prompt_id}")
    return answer.json()["prompt"]["status"] in ("scheduled", "running")


@pytest.mark.parametrize("stream", [True, False])
def test_closing_the_connection_cancels_within_a_second(service: ScriptedService, alice: httpx.Client, stream: bool):
    body = {"model": SLOW, "messages": HI, "stream": stream, "max_tokens": 2000}
    with httpx.Client(base_url=service.url, headers=alice.headers) as other:
        if stream:
            with other.stream("POST", "/v1/chat/completions", json=body) as answer:
                prompt_id = answer.headers["x-prompt-id"]
                next(answer.iter_lines())
                assert service.running(SLOW) == 1
        else:
            with pytest.raises(httpx.ReadTimeout):
                other.post("/v1/chat/completions", json=body, timeout=0.5)
            prompt_id = prompts(alice, limit=1, orderBys=[{"field": "createdAt", "desc": True}])[0]["id"]
    wait_for(lambda: not waits_or_runs(alice, prompt_id) and service.running(SLOW) == 0, timeout_s=1)
    assert alice.get(f"/prompt-svc/prompt/{prompt_id}").json()["prompt"]["status"] == "canceled"


@pytest.mark.parametrize("kept_by", ["store", "key"])
def test_a_call_that_is_kept_survives_its_connection_and_is_fetched_later(
    service: ScriptedService, client: openai.OpenAI, alice: httpx.Client, kept_by: str
):
    body = {"model": SLOW, "messages": HI, "stream": True, "max_tokens": 40, "metadata": {"for": "later"}}
    headers = {"Idempotency-Key": "mine"} if kept_by == "key" else {}
    body |= {"store": True} if kept_by == "store" else {}
    with alice.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
        call_id = answer.headers["x-prompt-id"]
        next(answer.iter_lines())
    early = alice.get(f"/v1/chat/completions/{call_id}")
    assert (early.status_code, early.json()["choices"], early.json()["status"]) == (202, [], "in_progress")
    wait_for(lambda: not waits_or_runs(alice, call_id))
    found = client.chat.completions.retrieve(call_id)
    assert found.choices[0].finish_reason == "length"
    assert found.metadata == {"for": "later"}  # type: ignore[attr-defined]
    assert found.usage is not None
    assert found.usage.completion_tokens == 40
    if kept_by == "key":
        again = post(alice, "/chat/completions", body, Idempotency_Key="mine")
        assert again.headers["x-prompt-id"] == call_id
        chunks = [ChatCompletionChunk.model_validate(data) for data in frames(again)]
        assert text_of(chunks) == found.choices[0].message.content
        other = post(alice, "/chat/completions", {**body, "n": 2}, Idempotency_Key="mine")
        assert error_of(other, 400)["code"] == "idempotency_key_reused"
        with service.client("bob") as bob:
            assert post(bob, "/chat/completions", body, Idempotency_Key="mine").headers["x-prompt-id"] != call_id
    assert client.chat.completions.delete(call_id).deleted
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.retrieve(call_id)


def test_the_sdks_second_attempt_is_the_same_call(alice: httpx.Client):
    body = {"model": SMALL, "messages": HI, "user": "retry"}
    first = post(alice, "/chat/completions", body)
    second = post(alice, "/chat/completions", body, x_stainless_retry_count="1")
    assert second.json() == first.json()
    assert post(alice, "/chat/completions", body).json()["id"] != first.json()["id"]
    other = post(alice, "/chat/completions", {**body, "user": "other"}, x_stainless_retry_count="1")
    assert other.json()["id"] != first.json()["id"]
    assert 0 < REMEMBERED_S <= 60


def test_a_second_attempt_at_what_was_cancelled_is_a_new_call(alice: httpx.Client):
    body = {"model": SLOW, "messages": HI, "stream": True, "max_tokens": 5, "user": "cancelled"}
    with alice.stream("POST", "/v1/chat/completions", json=body) as answer:
        first = answer.headers["x-prompt-id"]
        alice.delete(f"/prompt-svc/prompt/{first}")
        assert "cancelled" in answer.read().decode()
    second = post(alice, "/chat/completions", body, x_stainless_retry_count="1")
    assert second.headers["x-prompt-id"] != first
    assert frames(second)


def test_a_cancelled_stream_ends_with_an_error_and_not_as_if_it_were_whole(client: openai.OpenAI, alice: httpx.Client):
    stream = client.chat.completions.create(model=SLOW, messages=HI, stream=True)
    first = next(iter(stream))
    assert client.chat.completions.delete(first.id).deleted
    with pytest.raises(openai.APIError, match="cancelled"):
        list(stream)


def test_comments_keep_a_stream_open_and_the_sdk_reads_past_them(service: ScriptedService, client: openai.OpenAI):
    with service.client() as raw:
        body = {"model": SLOW, "messages": HI, "stream": True, "max_tokens": 15}
        answer = post(raw, "/chat/completions", body)
        assert answer.text.count(": keep-alive\n\n") >= 2
        assert not any(line.startswith(("id:", "retry:", "event:")) for line in answer.text.splitlines())
    assert text_of(streamed(client, model=SLOW, max_tokens=15))


# -- text -----------------------------------------------------------------------------------------------------------------


def test_texts_are_gone_on_with(client: openai.OpenAI, alice: httpx.Client):
    found = client.completions.create(model=SMALL, prompt="Once", max_tokens=9, temperature=0)
    assert strictly(Completion, found.model_dump()).choices[0].finish_reason == "length"
    text = found.choices[0].text
    stream = client.completions.create(model=SMALL, prompt="Once", max_tokens=9, temperature=0, stream=True, echo=True)
    assert "".join(choice.text for chunk in stream for choice in chunk.choices) == f"Once{text}"
    several = client.completions.create(model=SMALL, prompt=["Once", "Twice"], n=2, max_tokens=9, echo=True)
    assert [choice.index for choice in several.choices] == [0, 1, 2, 3]
    begins = zip(several.choices, ["Once"] * 2 + ["Twice"] * 2, strict=True)
    assert all(choice.text.startswith(word) for choice, word in begins)
    assert several.usage is not None
    assert several.usage.prompt_tokens == len("OnceTwice")
    by_ids = client.completions.create(model=SMALL, prompt=list(b"Once"), max_tokens=9, temperature=0)
    assert by_ids.choices[0].text == text
    assert len(client.completions.create(model=SMALL, prompt="Once").choices[0].text.encode()) <= 16 + 3
    raw = post(alice, "/completions", {"model": SMALL, "prompt": "Once", "stream": True})
    assert {data["object"] for data in frames(raw)} == {"text_completion"}
    for data in frames(raw):
        assert data["choices"][0].keys() == {"index", "text", "logprobs", "finish_reason"}


# -- bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/chat/completions", "/completions", "/embeddings", "/images/generations"])
def test_errors_have_all_four_keys_whatever_is_wrong(service: ScriptedService, path: str):
    with httpx.Client(base_url=service.url) as nobody:
        assert error_of(post(nobody, path, {}), 401)["code"] == "invalid_api_key"
        assert error_of(nobody.get("/v1/nothing"), 404)["type"] == "not_found_error"
        assert error_of(nobody.put(f"/v1{path}"), 405)["type"] == "invalid_request_error"
        guest = {"Authorization": f"Bearer {service.token('alice', roles=())}"}
        assert error_of(nobody.post(f"/v1{path}", json={}, headers=guest), 403)["type"] == "permission_error"
    with service.client() as alice:
        assert error_of(alice.post(f"/v1{path}", content=b"{"), 400)["type"] == "invalid_request_error"
        assert error_of(alice.post(f"/v1{path}", content=b"x" * 2_000_000), 413)["type"] == "invalid_request_error"
        assert error_of(post(alice, path, {"model": SMALL}), 400)["param"] in ("messages", "prompt", "input")
        assert error_of(post(alice, path, {"model": "org/none"}), 404)["code"] == "model_not_found"
        assert error_of(post(alice, path, {"model": 7}), 404)["code"] == "model_not_found"


def test_a_prompt_too_long_for_the_model_says_so(client: openai.OpenAI):
    with pytest.raises(openai.BadRequestError) as caught:
        whole(client, messages=[{"role": "user", "content": "x" * 5000}])
    assert caught.value.code == "context_length_exceeded"


def test_what_no_model_can_do_is_a_clear_400(client: openai.OpenAI):
    with pytest.raises(openai.BadRequestError, match="does not make embeddings"):
        client.embeddings.create(model=SMALL, input="text")
    with pytest.raises(openai.BadRequestError, match="text-to-image"):
        client.images.generate(prompt="a fox")
    with pytest.raises(openai.BadRequestError, match="lacks the capability image-to-image"):
        client.images.edit(model=SMALL, prompt="a fox", image=b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(openai.BadRequestError, match="no tool_parser"):
        whole(client, tools=[PAINT])


def test_another_users_completion_is_as_unknown_as_any(
    service: ScriptedService, client: openai.OpenAI, alice: httpx.Client
):
    mine = whole(client, store=True).id
    with service.client("bob") as bob:
        for method in ("GET", "DELETE"):
            answers = [bob.request(method, f"/v1/chat/completions/{name}") for name in (mine, "chatcmpl-unknown")]
            assert [error_of(answer, 404) for answer in answers] == [error_of(answers[0], 404)] * 2
    assert alice.get(f"/v1/chat/completions/{mine}").status_code == 200
    # A prompt of another API is no chat completion.
    other = alice.post("/prompt-svc/prompt", json={"prompt": "hi"}).json()["prompt"]["id"]
    error_of(alice.get(f"/v1/chat/completions/{other}"), 404)


NOTE = {"object": "chat.completion", "choice": 0, "choices": 1}


@pytest.mark.parametrize(
    "note",
    [
        "chat.completion",
        {**NOTE, "choices": "abc"},
        {**NOTE, "choices": [1]},
        {**NOTE, "choices": 1e300},
        {**NOTE, "choice": "0"},
        {**NOTE, "metadata": [1]},
        {**NOTE, "metadata": {"a": 1}},
        {**NOTE, "serviceTier": {}},
    ],
    ids=str,
)
def test_a_prompt_with_a_note_of_another_shape_is_no_completion(alice: httpx.Client, note: Any):
    sent = {"prompt": "hi", "sync": True, "parameters": {"openai": note}}
    prompt_id = alice.post("/prompt-svc/prompt", json=sent).json()["prompt"]["id"]
    for method in ("GET", "DELETE"):
        error_of(alice.request(method, f"/v1/chat/completions/{prompt_id}"), 404)
