"""Wire formats of the SEMOSS door, and the small rules behind them."""

import uuid

import orjson
import pytest

from deployments.ingress.doors.semoss.chunks import JobStatus, calls_of, chunks, job_status, text_of, usage_of
from deployments.ingress.doors.semoss.envelopes import OperationType, Outcome, envelope
from deployments.ingress.doors.semoss.jobs import new_job_id
from deployments.ingress.doors.semoss.replies import ExpressionNotFound, error_reply
from deployments.ingress.doors.semoss.sessions import Forged, Session
from deployments.ingress.doors.semoss.svc import config_object
from deployments.ingress.principal import Principal
from pipeline.delta import Delta, DeltaKind, FinishReason, ToolPart
from pipeline.errors import ServerError, StoreUnavailable, TooManyRequests, Unauthorized
from pipeline.states import Status
from pipeline.store.messages import Message
from tests.unit.snapshot import check_json

META = {"modelId": "org/small", "finishReason": "stop", "promptTokens": 37, "completionTokens": 8}
ANSWER = Message(id="msg-1", thread_id="t", text="Paris.", user_id="", created_us=1, meta=META)
CALLER = Principal(
    user_id="usr-1", slug="alice", roles=(), app_id="app-1", device="", token_id="tok-1", expires_at=4_000_000_000
)


def end(reason: FinishReason, text: str = "") -> Delta:
    return Delta(kind=DeltaKind.END, text=text, finish_reason=reason)


def tool(text: str = "", **part: str) -> Delta:
    return Delta(kind=DeltaKind.TOOL, text=text, tool=ToolPart(index=0, **part))


CALL = [tool(id="call_1", name="add"), tool('{"a"'), tool(": 1}")]


def test_a_poll_of_a_text():
    deltas = [Delta(text="Soccer"), Delta(), Delta(text=","), end(FinishReason.STOP, ".")]
    message = chunks(deltas, usage=usage_of(META))
    check_json("semoss-poll", {"message": message, "status": job_status(Status.COMPLETED, is_read_out=True)})


def test_a_poll_of_thoughts_and_tools():
    deltas = [
        Delta(kind=DeltaKind.THINKING, text="mulling"),
        *CALL,
        end(FinishReason.TOOL_CALLS),
    ]
    check_json("semoss-poll-tools", {"message": chunks(deltas, usage=None), "status": "ProgressComplete"})


@pytest.mark.parametrize(
    ("reason", "told"),
    [(FinishReason.LENGTH, "length"), (FinishReason.ERROR, "error"), (FinishReason.CANCELED, "canceled")],
)
def test_every_end_has_a_reason_of_its_own(reason: FinishReason, told: str):
    assert chunks([end(reason)], usage=None) == [{"stream_type": "content", "data": {"finish_reason": told}}]


def test_a_restart_voids_the_words_before_it():
    deltas = [
        Delta(text="Ol"),
        Delta(kind=DeltaKind.RESTART),
        Delta(text="New"),
        Delta(kind=DeltaKind.THINKING, text="x"),
    ]
    assert text_of(deltas) == "New"
    assert chunks(deltas[1:2], usage=None) == [{"stream_type": "content", "data": {"event": "restart"}}]


@pytest.mark.parametrize("status", Status)
def test_an_end_is_told_once_everything_is_read(status: Status):
    unread, read = (job_status(status, is_read_out=is_read) for is_read in (False, True))
    assert unread in (JobStatus.CREATED, JobStatus.IN_PROGRESS)
    assert (read in (JobStatus.PROGRESS_COMPLETE, JobStatus.CANCELED)) == status.is_terminal


def shown(outcome: Outcome) -> dict[str, object]:
    return envelope(
        Outcome.from_record(orjson.loads(orjson.dumps(outcome.to_record()))),
        insight_id="8b419eaf-df7d-4a7f-869e-8d7d59bbfde8",
        expression='LLM(engine="x", command="y");',
        time_ms=128,
        session_seconds=1800,
    )


def test_envelopes():
    check_json("semoss-answer", shown(Outcome.answer(ANSWER, "room-1", by_code=False)))
    check_json("semoss-answer-with-calls", shown(Outcome.answer(ANSWER, "room-1", by_code=False, calls=calls_of(CALL))))
    check_json("semoss-answer-to-code", shown(Outcome.answer(ANSWER, "room-1", by_code=True)))
    check_json("semoss-error", shown(Outcome.error("no", OperationType.INVALID_SYNTAX)))
    check_json("semoss-probe", shown(Outcome(output=True, is_meta=True)))


def test_configs():
    session = Session(digest="d", caller=CALLER, csrf="token")
    check_json("semoss-config-nobody", config_object(None, csrf=False))
    check_json("semoss-config", config_object(session, csrf=False))
    check_json("semoss-config-csrf", config_object(session, csrf=True))


def test_errors():
    errors = (Unauthorized(), Forged(), ExpressionNotFound(), TooManyRequests(), StoreUnavailable(), ServerError())
    replies = [error_reply(error) for error in errors]
    check_json("semoss-errors", [[reply.status_code, orjson.loads(reply.body)] for reply in replies])


def test_job_ids_are_uuids_of_version_7_in_the_order_of_time():
    ids = [uuid.UUID(new_job_id()) for _ in range(100)]
    assert {(i.version, i.variant) for i in ids} == {(7, uuid.RFC_4122)}
    assert len(set(ids)) == 100
    assert [i.int >> 80 for i in ids] == sorted(i.int >> 80 for i in ids)


def test_calls_of_tools_are_put_together_again():
    restart = Delta(kind=DeltaKind.RESTART)
    second = Delta(kind=DeltaKind.TOOL, text="{}", tool=ToolPart(index=1, id="call_2", name="wait"))
    assert calls_of([tool(id="call_0", name="old"), restart, *CALL, Delta(text="x"), second]) == [
        {"id": "call_1", "type": "function", "name": "add", "arguments": '{"a": 1}'},
        {"id": "call_2", "type": "function", "name": "wait", "arguments": "{}"},
    ]


def test_thoughts_are_counted_where_the_model_has_them():
    assert usage_of({**META, "reasoningTokens": 5}) == {"input_tokens": 37, "output_tokens": 8, "reasoning_tokens": 5}
