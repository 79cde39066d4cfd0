"""What firehose-svc's route says of itself in the OpenAPI document."""

from __future__ import annotations

from deployments.ingress.operation import STRING, Component, event_stream_of, exactly, last_event_id

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
LAST_EVENT_ID = last_event_id("^([0-9]{1,19}-[0-9]{1,19})?$")
SUBSCRIBE = event_stream_of(EVENT, LAST_EVENT_ID)
