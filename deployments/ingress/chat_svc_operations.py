"""What chat-svc's routes say of themselves in the OpenAPI document."""

from __future__ import annotations

from deployments.ingress.accepted import NOT_BLANK
from deployments.ingress.operation import NOTHING, STRING, Component, Operation, event_stream_of, exactly, list_of
from deployments.ingress.wire_schemas import MESSAGE, THREAD

#: Why some routes that look at a body have none here: a GET has none in most clients. A broken one is refused all the same.
_OF_A_BODY = (400, 413, 415)
_AFTER = {"after": {**STRING, "description": "There may be more: `after` of the next page"}}
_THREAD_REPLY = exactly({"thread": THREAD})
#: The answer to a thread that was saved, a page of threads, and one of messages.
GET_THREAD = Operation(response=_THREAD_REPLY)
THREADS = exactly({"threads": list_of(THREAD)}, _AFTER)
MESSAGES = exactly({"messages": list_of(MESSAGE)}, _AFTER)
THREAD_SAVED = _THREAD_REPLY

#: What a message needs beyond its model: a text that is not blank.
WITH_TEXT = {
    "properties": {"text": {"type": ["string", "number", "boolean"], "pattern": NOT_BLANK}},
    "required": ["text"],
}
DELETE = Operation(response=NOTHING)
GET_MESSAGES = Operation(response=MESSAGES, errors=_OF_A_BODY)

EVENT = Component(
    name="ChatEvent",
    schema=exactly(
        {
            "name": {"enum": ["chatMessageAdded", "chatThreadAdded", "chatThreadUpdate"]},
            "data": exactly({"threadId": STRING}),
        }
    ),
)
EVENTS = event_stream_of(EVENT)
