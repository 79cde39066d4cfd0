"""What prompt-svc's routes say of themselves in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt

from deployments.ingress.accepted import NULL, OBJECT_TEXT
from deployments.ingress.operation import (
    INTEGER,
    NOTHING,
    STRING,
    Component,
    Link,
    Operation,
    Schema,
    event_stream_of,
    exactly,
    last_event_id,
    list_of,
)
from deployments.ingress.prompt_request import PromptRequest
from deployments.ingress.query_schema import QUERY
from deployments.ingress.wire_schemas import MESSAGE, PROMPT
from deployments.settings import Settings
from pipeline.priority import HIGHEST
from pipeline.prompt_type import PromptType

_PROMPT_ID = "$response.body#/prompt/id"
#: Beside a Prompt object, not in it: the original's Go client takes no key there that it does not know (contract §0.8).
_BESIDE: Mapping[str, Schema] = {
    "responseMessage": MESSAGE,
    "queuePosition": {**INTEGER, "minimum": 0, "description": "Of one that waits: how many are to run before it"},
    "fileIds": list_of(STRING),
    "routed": {**STRING, "description": "How its model was chosen, if not by its name: a split, or a fallback and why"},
}


def _image_limits(settings: Settings) -> Schema:
    """Of the parameters of pictures, what every image model of the catalogue allows; none may be given where there is none."""
    rules = [model.images for model in settings.models if model.paints]
    if not rules:
        return {
            "parameters": {"properties": {"textToImage": NULL}},
            "engineParameters": {"properties": {"stableDiffusion": NULL}},
        }
    side = {"maximum": isqrt(min(rule.max_pixels for rule in rules))}
    images = {"maximum": min(rule.max_images for rule in rules)}
    steps = {"maximum": min(rule.max_steps for rule in rules)}
    size = {"width": side, "height": side, "steps": steps}
    txt2img = {"properties": {**size, "num_inference_steps": steps, "batch_size": images}}
    return {
        "parameters": {"properties": {"textToImage": {"properties": {**size, "batchSize": images}}}},
        "engineParameters": {"properties": {"stableDiffusion": {"properties": {"txt2Img": txt2img}}}},
    }


def submit(settings: Settings) -> Operation:
    """Of POST /prompt-svc/prompt, whose ``modelId`` and ``type`` the catalogue must know."""
    capabilities = {capability for model in settings.models for capability in model.capabilities}
    types = [kind.value for kind in PromptType if kind.capability in capabilities]
    return Operation(
        request={
            "allOf": [
                PromptRequest,
                {
                    "properties": {
                        "modelId": {
                            "enum": [*settings.model_names, "", None],
                            "description": "An id or alias of the catalogue; empty: the default model",
                        },
                        "type": {
                            "enum": [*types, "", None],
                            "description": "Empty: what its parameters and files mean",
                        },
                        "priority": {
                            "maximum": settings.max_user_priority,
                            "description": f"The highest runs first; an admin's may be up to {HIGHEST}",
                        },
                        **_image_limits(settings),
                    }
                },
            ]
        },
        response=exactly(
            {"prompt": PROMPT},
            {
                **_BESIDE,
                "error": {**STRING, "description": "Of a sync prompt: why there is no answer"},
                "warnings": {**list_of(STRING), "description": "Keys of the request that are ignored"},
            },
        ),
        links=(
            Link(to="GET /prompt-svc/prompt/{prompt_id}", parameter="prompt_id", value=_PROMPT_ID),
            Link(to="DELETE /prompt-svc/prompt/{prompt_id}", parameter="prompt_id", value=_PROMPT_ID),
            Link(
                to="GET /prompt-svc/prompts/{thread_id}/responses/subscribe",
                parameter="thread_id",
                value="$response.body#/prompt/threadId",
            ),
        ),
    )


READ = Operation(response=exactly({"prompt": PROMPT, "priority": INTEGER}, _BESIDE))

LIST = Operation(
    request={"type": "object", "properties": {"query": {"anyOf": [QUERY, OBJECT_TEXT, NULL]}}},
    response=exactly(
        {"prompts": list_of(PROMPT), "count": {**INTEGER, "description": "0 unless the query asks for it"}},
        {
            "after": {**STRING, "description": "There may be more: `after` of the next page's query"},
            "truncated": {"const": True, "description": "The page ended before its limit: the next one goes on"},
            "countTruncated": {"const": True, "description": "There are more than were counted"},
        },
    ),
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
        {
            "text": STRING,
            "messageId": STRING,
            "step": {**INTEGER, "minimum": 1, "description": "Of a picture: so many of `steps` are done"},
            "steps": {**INTEGER, "minimum": 1},
            "preview": {**STRING, "description": "A small picture of what there is so far, as a data: URL"},
            "fileIds": {**list_of(STRING), "description": "Of done: the answer's pictures"},
        },
    ),
)
SUBSCRIBE = event_stream_of(CHUNK, last_event_id("^([0-9]{1,19}-[0-9]{1,19})?$"))

TYPES = Operation(response=NOTHING)
