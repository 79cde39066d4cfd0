"""What chat-svc's routes say of themselves in the OpenAPI document."""

from __future__ import annotations

from deployments.ingress.accepted import NOT_BLANK
from deployments.ingress.firehose_svc_operations import LAST_EVENT_ID
from deployments.ingress.operation import NOTHING, STRING, Component, Link, Operation, event_stream_of, exactly, list_of
from deployments.ingress.wire_schemas import MESSAGE, THREAD

#: A GET has no body in most clients, so that its document has none; a broken one is refused all the same.
_OF_A_BODY = (400, 413, 415)
_AFTER = {"after": {**STRING, "description": "There may be more: `after` of the next page"}}
#: Answers: to a thread that was saved, a page of threads, a page of messages.
THREAD_SAVED = exactly({"thread": THREAD})
THREADS = exactly({"threads": list_of(THREAD)}, _AFTER)
MESSAGES = exactly({"messages": list_of(MESSAGE)}, _AFTER)

#: What a message needs beyond its model: a text that is not blank.
WITH_TEXT = {
    "properties": {"text": {"type": ["string", "number", "boolean"], "pattern": NOT_BLANK}},
    "required": ["text"],
}
_THREAD_ID = "$response.body#/thread/id"
#: Where a saved thread is.
THREAD_LINKS = tuple(
    Link(to=name, parameter="thread_id", value=_THREAD_ID)
    for name in (
        "GET /chat-svc/thread/{thread_id}",
        "DELETE /chat-svc/thread/{thread_id}",
        "POST /chat-svc/thread/{thread_id}/message",
        "GET /chat-svc/thread/{thread_id}/messages",
    )
)
DELETE = Operation(response=NOTHING)
GET_THREAD = Operation(response=THREAD_SAVED)
GET_MESSAGES = Operation(response=MESSAGES, errors=_OF_A_BODY)

EVENT = Component(
    name="ChatEvent",
    schema=exactly(
        {
            "name": {"enum": ["chatMessageAdded", "chatThreadAdded", "chatThreadUpdate", "eventsMissed"]},
            "data": exactly({}, {"threadId": STRING}),
        }
    ),
)
EVENTS = event_stream_of(EVENT, LAST_EVENT_ID)
