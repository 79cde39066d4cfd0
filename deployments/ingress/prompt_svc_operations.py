"""What prompt-svc's routes say of themselves in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from deployments.ingress.accepted import ARRAY_TEXT, INTEGER_TEXT, NULL, OBJECT_TEXT
from deployments.ingress.operation import INTEGER, NOTHING, STRING, Component, Operation, Parameter, exactly, list_of
from deployments.ingress.prompt_request import PromptRequest
from deployments.ingress.wire_schemas import MESSAGE, PROMPT
from pipeline.query import DEFAULT_LIMIT, FIELDS, MOST
from pipeline.states import Status


def submit(models: Iterable[str]) -> Operation:
    """Of POST /prompt-svc/prompt, whose ``modelId`` is one of ``models``."""
    model_id = {"enum": [*models, "", None], "description": "An id or alias of the catalogue; empty: the default model"}
    return Operation(
        request={"allOf": [PromptRequest, {"properties": {"modelId": model_id}}]},
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
    return {"anyOf": [{"type": "array", "items": items, **keywords}, ARRAY_TEXT, NULL]}


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
            "limit": {
                "anyOf": [
                    {"type": "integer", "minimum": 0, "maximum": MOST},
                    INTEGER_TEXT,
                    NULL,
                ],
                "default": DEFAULT_LIMIT,
            },
            "count": _FLAG,
        },
    },
)

LIST = Operation(
    request={"type": "object", "properties": {"query": {"anyOf": [_QUERY, OBJECT_TEXT, NULL]}}},
    response=exactly({"prompts": list_of(PROMPT), "count": INTEGER}),
)

_TEXT = {"type": ["string", "number", "boolean"]}
_OWNER = {
    "userId": {"type": [*_TEXT["type"], "null"], "description": "Whose prompt it is; only an admin's word counts"}
}
#: What the docstring says of ``promptId`` is not to be had in a schema.
DELETE = Operation(request={"type": "object", "properties": _OWNER}, response=NOTHING)
REMOVE = Operation(
    request={
        "type": "object",
        "properties": {"promptId": {**_TEXT, "minLength": 1}, **_OWNER},
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
            schema={"type": "string", "pattern": "^([0-9]{1,19}-[0-9]{1,19})?$"},
        ),
    ),
)

TYPES = Operation(response=NOTHING)
