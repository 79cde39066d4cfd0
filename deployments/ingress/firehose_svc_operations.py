"""What firehose-svc's route says of itself in the OpenAPI document."""

from __future__ import annotations

from deployments.ingress.operation import STRING, Component, event_stream_of, exactly, last_event_id
from pipeline.store.events import ID_PATTERN

EVENT = Component(
    name="Event",
    schema=exactly(
        {
            "name": {
                "enum": [
                    "promptAdded",
                    "promptRemoved",
                    "promptProcessingStarted",
                    "promptProcessingFinished",
                    "chatMessageAdded",
                    "chatThreadAdded",
                    "chatThreadUpdate",
                    "eventsMissed",
                ]
            },
            "data": {
                "type": "object",
                "properties": {
                    "promptId": STRING,
                    "threadId": STRING,
                    "error": {**STRING, "description": "Why an attempt finished without a result"},
                },
                "additionalProperties": False,
            },
        }
    ),
)
LAST_EVENT_ID = last_event_id(f"^({ID_PATTERN})?$")
SUBSCRIBE = event_stream_of(EVENT, LAST_EVENT_ID)
