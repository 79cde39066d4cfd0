"""What prompt-svc's routes say of themselves in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from deployments.ingress.accepted import NULL, OBJECT_TEXT
from deployments.ingress.operation import INTEGER, NOTHING, STRING, Component, Operation, Parameter, exactly, list_of
from deployments.ingress.prompt_request import PromptRequest
from deployments.ingress.wire_schemas import MESSAGE, PROMPT
from pipeline.query import DEFAULT_LIMIT, FIELDS, MOST
from pipeline.states import Status

SUBMIT = Operation(
    request=PromptRequest,
    response=exactly(
        {"prompt": PROMPT},
        {
            "responseMessage": MESSAGE,
            "error": {**STRING, "description": "Of a sync prompt: why there is no answer"},
        },
    ),
)

_FLAG = {"anyOf": [{"type": "boolean"}, {"enum": ["true", "false"]}, NULL]}


def _listed(items: dict[str, Any], **keywords: Any) -> dict[str, Any]:
    """An array, or the text of one."""
    text = {"type": "string", "format": "json-array", "contentMediaType": "application/json"}
    return {"anyOf": [{"type": "array", "items": items, **keywords}, text, NULL]}


def _filter(field: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    one_or_more = {"anyOf": [value, {"type": "array", "items": value, "minItems": 1}]}
    return {
        "type": "object",
        "properties": {"field": field, "operator": {"enum": ["in", "isInList"]}, "value": one_or_more},
        "required": ["field", "operator", "value"],
    }


_QUERY = Component(
    name="PromptQuery",
    schema={
        "type": "object",
        "description": "The other dialect (`fields`, `op`, `valuesJson`, `orderBys`) is understood too.",
        "properties": {
            "filters": _listed(
                {
                    "anyOf": [
                        _filter({"enum": [name for name in FIELDS if name != "status"]}, {"type": "string"}),
                        _filter({"const": "status"}, {"enum": [status.value for status in Status]}),
                    ]
                }
            ),
            "orderBy": _listed(
                {
                    "type": "object",
                    "properties": {"field": {"const": "createdAt"}, "desc": _FLAG},
                    "required": ["field"],
                },
                maxItems=1,
            ),
            "limit": {"type": ["integer", "null"], "minimum": 0, "maximum": MOST, "default": DEFAULT_LIMIT},
            "count": _FLAG,
        },
    },
)

LIST = Operation(
    request={"type": "object", "properties": {"query": {"anyOf": [_QUERY, OBJECT_TEXT, NULL]}}},
    response=exactly({"prompts": list_of(PROMPT), "count": INTEGER}),
)

_ADMINS = {"userId": {"type": "string", "description": "Of an admin: whose prompt it is"}}
DELETE = Operation(
    request={"type": "object", "properties": _ADMINS},
    response=NOTHING,
)
REMOVE = Operation(
    request={
        "type": "object",
        "properties": {"promptId": {"type": "string", "minLength": 1}, **_ADMINS},
        "required": ["promptId"],
    },
    response=NOTHING,
    errors=(404,),
)

#: One event's data. ``progress`` and ``done`` are the original's.
CHUNK = Component(
    name="Chunk",
    schema=exactly(
        {"type": {"enum": ["progress", "done", "error", "canceled", "restart"]}, "promptId": STRING},
        {"text": STRING, "messageId": STRING},
    ),
)
SUBSCRIBE = Operation(
    response={"type": "string", "contentMediaType": "text/event-stream", "contentSchema": CHUNK},
    media_type="text/event-stream",
    parameters=(
        Parameter(
            name="Last-Event-ID",
            place="header",
            description="Id of the last event seen: the stream goes on behind it",
            schema={"type": "string", "pattern": "^[0-9]{1,19}-[0-9]{1,19}$"},
        ),
    ),
)

TYPES = Operation(response=NOTHING)
