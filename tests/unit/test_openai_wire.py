"""What the OpenAI door writes, to the letter, and that it is what the client's types say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from openai.types import Completion, ImageGenCompletedEvent, ImagesResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from starlette.exceptions import HTTPException

from deployments.ingress.doors.openai.answer import Answer, Usage
from deployments.ingress.doors.openai.errors import OpenAiError, error_reply, model_not_found
from deployments.ingress.doors.openai.images import completed_event
from deployments.ingress.doors.openai.stream import AnswerFailed, check_answered, error_frame, frame
from deployments.ingress.doors.openai.wire import Chunks, Head, completion
from deployments.models import PromptTooLong
from pipeline.delta import Delta, DeltaKind, FinishReason, TokenLogprob, ToolPart
from pipeline.errors import (
    Conflict,
    Denied,
    InvalidField,
    NotFound,
    PromptSvcError,
    ServerError,
    StoreUnavailable,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    UnsupportedMediaType,
)
from pipeline.store.logs import LogEntry, decode_entry, decode_rung_entry, encode_delta
from tests.unit.snapshot import check_json, check_text

HEAD = Head(id="chatcmpl-1", object="chat.completion", created=1_700_000_000, model="org/small")
TEXT_HEAD = Head(id="cmpl-1", object="text_completion", created=1_700_000_000, model="org/small", service_tier="flex")
LOGPROBS = (TokenLogprob(token="é", logprob=-0.5, top=(("é", -0.5), ("e", -9999.0))),)
CALL: Sequence[Delta] = (
    Delta(kind=DeltaKind.THINKING, text="hm", token_ids=(1,)),
    Delta(text="é", token_ids=(2,), logprobs=LOGPROBS),
    Delta(token_ids=(3,)),
    Delta(kind=DeltaKind.TOOL, tool=ToolPart(index=0, id="call_1", name="paint")),
    Delta(kind=DeltaKind.TOOL, text='{"colour": ', tool=ToolPart(index=0)),
    Delta(kind=DeltaKind.TOOL, text='"blue"}', tool=ToolPart(index=0)),
    Delta(kind=DeltaKind.TOOL, text="{}", tool=ToolPart(index=1, id="call_2", name="wait")),
    Delta(kind=DeltaKind.END, finish_reason=FinishReason.TOOL_CALLS),
)
PLAIN: Sequence[Delta] = (
    Delta(text="é", logprobs=LOGPROBS),
    Delta(kind=DeltaKind.END, text="!", finish_reason=FinishReason.LENGTH, logprobs=LOGPROBS),
)
USAGE = Usage(prompt=7, completion=5, reasoning=1)


def entries(deltas: Sequence[Delta]) -> list[LogEntry]:
    return [LogEntry(number=number, delta=delta) for number, delta in enumerate(deltas, start=1)]


def stream(chunks: Chunks, deltas: Sequence[Delta]) -> str:
    found = [chunk for delta in deltas for chunk in chunks.of(0, delta)]
    return b"".join(map(frame, [*found, chunks.usage(USAGE)])).decode()


def strictly(kind: type[Any], value: Any) -> None:
    """The client builds its types from anything; here they must fit."""
    kind.model_validate_json(json.dumps(value), strict=True)


def data_of(text: str) -> list[Any]:
    return [json.loads(part.removeprefix("data: ")) for part in text.split("\n\n") if part]


def test_a_streamed_chat():
    text = stream(Chunks(HEAD, include_usage=True), CALL)
    check_text("openai-chat-stream.txt", text)
    for data in data_of(text):
        strictly(ChatCompletionChunk, data)


def test_a_streamed_text():
    text = stream(Chunks(TEXT_HEAD, include_usage=False, prompts=("Once ",)), PLAIN)
    check_text("openai-text-stream.txt", text)
    for data in data_of(text):
        if data["choices"] and data["choices"][0]["finish_reason"]:
            strictly(Completion, data)


def test_a_whole_chat():
    reply = completion(HEAD, [Answer.of(entries(CALL)), Answer.of(entries(PLAIN))], USAGE)
    check_json("openai-chat", reply)
    strictly(ChatCompletion, reply)


def test_a_whole_text():
    reply = completion(TEXT_HEAD, [Answer.of(entries(PLAIN))], USAGE, prompts=["Once "])
    check_json("openai-text", reply)
    strictly(Completion, reply)


def test_what_stands_before_a_restart_is_void():
    restarted = [*CALL[:-1], Delta(kind=DeltaKind.RESTART), *PLAIN]
    assert Answer.of(entries(restarted)) == Answer.of(entries(PLAIN))


@pytest.mark.parametrize("delta", [*CALL, *PLAIN])
def test_the_log_and_the_bell_keep_all_of_a_delta(delta: Delta):
    fields = [part if isinstance(part, bytes) else part.encode() for part in encode_delta(delta)]
    assert decode_entry(b"1-0", fields).delta == delta
    rung = {
        name.decode(): value.decode() for name, value in zip(fields[::2], fields[1::2], strict=True) if name != b"i"
    }
    assert decode_rung_entry(1, json.dumps(rung).encode()).delta == replace(delta, token_ids=())


ERRORS: dict[str, PromptSvcError | HTTPException] = {
    "field": InvalidField("n", 9, "an integer from 1 to 8"),
    "field of prompt svc": InvalidField("modelId", "x", "a model"),
    "parameter": OpenAiError("not served", param="suffix", code="unsupported_parameter"),
    "model": model_not_found("org/none"),
    "model with odd name": model_not_found("\x1b[31m"),
    "too long": PromptTooLong("prompt: got 9 tokens"),
    "no key": Unauthorized(),
    "no permission": Denied(),
    "not found": NotFound(),
    "conflict": Conflict("id: a chat message has this id"),
    "too large": TooLarge(),
    "compressed": UnsupportedMediaType(),
    "rate": TooManyRequests(retry_after_s=3.2),
    "failed": AnswerFailed("the engine failed", "generation_failed"),
    "bug": ServerError(),
    "store": StoreUnavailable(),
    "unknown path": HTTPException(404),
    "method": HTTPException(405),
}


def test_errors_have_their_statuses_and_four_keys():
    replies = {}
    for name, error in ERRORS.items():
        reply = error_reply(error)
        shown = {key: value for key, value in reply.headers.items() if key in ("retry-after", "x-should-retry")}
        replies[name] = {"status": reply.status_code, **shown, **json.loads(bytes(reply.body))}
        assert list(replies[name]["error"]) == ["message", "type", "param", "code"]
    check_json("openai-errors", replies)


def test_a_frame_is_one_line_for_every_reader_of_lines():
    data = {"text": "a\u0085b\u2028c\u2029"}
    text = frame(data).decode()
    assert text.splitlines() == [text.removesuffix("\n\n"), ""]
    assert json.loads(text.removeprefix("data: ")) == data


def test_a_stream_that_fails_says_so_in_a_frame():
    assert error_frame(AnswerFailed("no", "generation_failed")) == (
        b'data: {"error":{"message":"no","type":"server_error","param":null,"code":"generation_failed"}}\n\n'
    )


@pytest.mark.parametrize(
    ("reason", "code"),
    [(FinishReason.CANCELED, "cancelled"), (FinishReason.ERROR, "generation_failed"), (None, "removed")],
)
def test_an_end_without_an_answer_is_an_error(reason: FinishReason | None, code: str):
    with pytest.raises(AnswerFailed) as caught:
        check_answered(reason, "")
    assert caught.value.code == code
    assert caught.value.message
    for good in (FinishReason.STOP, FinishReason.LENGTH, FinishReason.TOOL_CALLS):
        check_answered(good, "")


def test_a_choice_has_begun_with_its_first_piece():
    chunks = Chunks(HEAD, include_usage=False)
    assert chunks.of(1, Delta(token_ids=(1,))) == []
    assert not chunks.has_begun(1)
    assert len(chunks.of(1, Delta(text="a"))) == 2
    assert chunks.has_begun(1)
    assert not chunks.has_begun(0)


def test_images_fit_their_types():
    strictly(
        ImagesResponse, {"created": 1, "data": [{"b64_json": "aa", "revised_prompt": None}], "output_format": "png"}
    )
    event = completed_event("image_generation.completed", "aa", created=1, size="512x512", output_format="png")
    check_json("openai-image-event", event)
    strictly(ImageGenCompletedEvent, {**event, "size": "1024x1024"})
