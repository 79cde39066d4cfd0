"""Schemas of the objects that ``wire`` makes: Prompt, Message, Thread."""

from __future__ import annotations

from deployments.ingress.operation import BOOLEAN, INTEGER, STRING, TIME, Component, exactly, list_of
from pipeline.states import Status

PROMPT = Component(
    name="Prompt",
    schema=exactly(
        {
            "id": STRING,
            "prompt": {**STRING, "description": "Empty in an admin's listing where it is another user's"},
            "threadId": STRING,
            "userId": STRING,
            "sync": BOOLEAN,
            "requestMessageId": STRING,
            "responseMessageId": {**STRING, "description": "Empty until it is completed"},
            "createdAt": TIME,
            "updatedAt": TIME,
            "lastRun": {**TIME, "description": "0001-01-01T00:00:00Z before the first run"},
            "status": {"enum": [status.value for status in Status]},
            "modelId": {**STRING, "description": "The model that really runs it"},
            "maxRetries": INTEGER,
        },
        {
            "type": STRING,
            "runCount": {**INTEGER, "minimum": 1},
            "error": {**STRING, "description": "The last failure"},
            "parameters": {"type": "object", "description": "As they were sent"},
            "engineParameters": {"type": "object", "description": "As they were sent"},
        },
    ),
)

MESSAGE = Component(
    name="Message",
    schema=exactly(
        {"id": STRING, "threadId": STRING, "text": STRING, "createdAt": TIME, "updatedAt": TIME},
        {
            "userId": {**STRING, "description": "Absent in an answer"},
            "fileIds": list_of(STRING),
            "meta": {
                "type": "object",
                "description": "Of an answer: modelId, finishReason, promptTokens and completionTokens, or how its images were "
                "made; else what was sent",
            },
        },
    ),
)

THREAD = Component(
    name="Thread",
    schema=exactly(
        {
            "id": STRING,
            "createdAt": TIME,
            "updatedAt": TIME,
            "userIds": {**list_of(STRING), "description": "Its owner"},
        },
        {"topicIds": list_of(STRING), "title": STRING},
    ),
)
