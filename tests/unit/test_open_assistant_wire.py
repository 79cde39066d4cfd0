"""What Open-Assistant's clients get to see, key by key; and the words of its refusals."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from deployments.ingress.doors.open_assistant import wire
from deployments.ingress.doors.open_assistant.bodies import ChatsQuery, Sampling
from deployments.ingress.doors.open_assistant.errors import Refused, error_reply, invalid
from deployments.ingress.doors.open_assistant.events import Spoken
from deployments.ingress.doors.open_assistant.wire import Told
from pipeline.chat_tree import Chat, ChatMessage, Report, ReportType, Role
from pipeline.errors import InvalidField, ServerError, StoreUnavailable
from pipeline.json_text import InvalidJson
from pipeline.prompt import Prompt
from pipeline.states import Status
from tests.unit.snapshot import check_json

CHAT = Chat(
    id="018f",
    user_id="usr-1",
    title="Hi",
    is_hidden=False,
    allows_data_use=True,
    tail_id="m2",
    created_us=1_682_942_400_123_456,
    modified_us=1_682_942_401_000_000,
)
SAID = ChatMessage(
    id="m1",
    user_id="usr-1",
    chat_id="018f",
    parent_id=None,
    role=Role.PROMPTER,
    text="Hi",
    created_us=1_682_942_400_200_000,
    score=0,
    reports=(),
    work_parameters=None,
)
ANSWER = ChatMessage(
    id="m2",
    user_id="usr-1",
    chat_id="018f",
    parent_id="m1",
    role=Role.ASSISTANT,
    text="",
    created_us=1_682_942_401_000_000,
    score=1,
    reports=(Report(id="rep-1", type=ReportType.SPAM, reason="why"),),
    work_parameters={"seed": 1},
)


def prompt(status: Status) -> Prompt:
    record = {b"id": b"m2", b"user": b"usr-1", b"thread": b"018f", b"status": status.value.encode(), b"place": b"1"}
    return Prompt.from_record(record)


DONE = Told(message=ANSWER, prompt=prompt(Status.COMPLETED), answer="Hello 🙂\n")


def test_chats_and_messages():
    check_json("open-assistant-chat", wire.chat_object(CHAT, [Told(message=SAID), DONE]))


def test_events():
    waiting = Told(message=ANSWER, prompt=prompt(Status.ABANDONED))
    check_json(
        "open-assistant-events",
        [
            wire.pending_event(position=2, size=1),
            wire.token_event(" Hello\n"),
            wire.message_event(DONE),
            wire.error_event("Aborted due to worker error.", waiting),
            wire.error_event("The message was removed.", None),
        ],
    )


def test_a_model_as_clients_choose_one():
    check_json("open-assistant-model", wire.model_config("distilgpt2", "answered by org/small"))


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (Status.SCHEDULED, "pending"),
        (Status.RUNNING, "in_progress"),
        (Status.ERRORED, "in_progress"),
        (Status.COMPLETED, "complete"),
        (Status.ABANDONED, "aborted_by_worker"),
        (Status.CANCELED, "cancelled"),
    ],
)
def test_the_state_of_an_answer_is_its_prompts(status: Status, state: str):
    assert Told(message=ANSWER, prompt=prompt(status)).state == state


def test_the_state_of_a_message_without_a_prompt():
    assert Told(message=SAID).state == "manual"
    assert Told(message=ANSWER).state == "cancelled"


@pytest.mark.parametrize(
    ("pieces", "sent"),
    [
        (["Hel", "lo"], ["Hel", "lo"]),
        (["Hel", None, "H", "ello"], ["Hel", "lo"]),
        (["Hel", None, "Hel", "lo"], ["Hel", "lo"]),
        (["Hel", None, "Other", " words"], ["Hel"]),
        (["Hel", None, "Ha", None, "Hello"], ["Hel", "lo"]),
        ([None, "Hello"], ["Hello"]),
        (["", "x"], ["x"]),
    ],
)
def test_an_answer_that_begins_anew_is_appended_to_what_was_sent_or_not_sent(pieces: list[str | None], sent: list[str]):
    spoken = Spoken()
    found = []
    for piece in pieces:
        if piece is None:
            spoken.restart()
        elif new := spoken.add(piece):
            found.append(new)
    assert found == sent


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (Refused(400, "Message not found"), 400, {"detail": "Message not found"}),
        (HTTPException(404, "Not Found"), 404, {"detail": "Not Found"}),
        (ServerError(), 500, {"detail": "Internal Server Error"}),
        (InvalidField("size", 0, "more"), 400, {"detail": "size: got 0, allowed is more"}),
        (
            InvalidJson("unexpected end"),
            422,
            {
                "detail": [
                    {"loc": ["body"], "msg": "Invalid JSON: unexpected end", "type": "value_error.jsondecode"},
                ]
            },
        ),
        (
            invalid("query", "code", "field required", "value_error.missing"),
            422,
            {"detail": [{"loc": ["query", "code"], "msg": "field required", "type": "value_error.missing"}]},
        ),
    ],
)
def test_errors_are_in_the_shape_of_the_door(error: Any, status: int, body: Any):
    reply = error_reply(error)
    assert (reply.status_code, json.loads(reply.body)) == (status, body)


def test_an_error_that_may_pass_says_when():
    reply = error_reply(StoreUnavailable())
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "2")
    assert error_reply(Refused(401, "Invalid token")).headers["www-authenticate"] == "Bearer"


def test_what_is_not_set_is_off():
    sampling = Sampling().for_engine(seed=1)
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.max_tokens) == (1.0, 1.0, 0, 1024)
    assert sampling.repetition_penalty == 1.0
    assert Sampling(top_k=-1).for_engine(seed=1).top_k == 0


@pytest.mark.parametrize("field", ["temperature", "top_p", "typical_p", "repetition_penalty"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, 101])
def test_no_number_reaches_an_engine_that_it_cannot_take(field: str, value: float):
    with pytest.raises(ValueError, match=field):
        Sampling.model_validate({field: value})


def test_a_temperature_that_vllm_refuses_is_refused():
    assert Sampling.model_validate({"temperature": 2}).temperature == 2
    with pytest.raises(ValueError, match="temperature"):
        Sampling.model_validate({"temperature": 2.01})


def test_a_query_has_defaults():
    query = ChatsQuery()
    assert (query.limit, query.include_hidden, query.after, query.before) == (10, False, None, None)
