"""What model-svc's routes, and /health, say of themselves in the OpenAPI document."""

from __future__ import annotations

from dataclasses import replace

from deployments.ingress.model_state import State
from deployments.ingress.operation import (
    BOOLEAN,
    INTEGER,
    NOTHING,
    STRING,
    Component,
    Operation,
    Parameter,
    exactly,
    list_of,
)
from deployments.settings import Settings
from pipeline.prompt_type import PromptType

MODEL_STATUS = Component(
    name="ModelStatus", schema=exactly({"assetsReady": BOOLEAN, "running": BOOLEAN, "address": STRING})
)
MODEL = Component(
    name="Model",
    schema=exactly(
        {
            "id": STRING,
            "platformId": STRING,
            "name": STRING,
            "fullName": STRING,
            "tags": {**list_of(STRING), "description": "Its capabilities"},
        }
    ),
)
PLATFORM = Component(
    name="Platform",
    schema=exactly(
        {
            "id": STRING,
            "name": STRING,
            "version": INTEGER,
            "architectures": NOTHING,
            "types": {**list_of({"enum": list(PromptType)}), "description": "Of the prompts that its models answer"},
        }
    ),
)
STATUS = Operation(
    response=exactly(
        {
            "status": MODEL_STATUS,
            "modelId": STRING,
            "state": {"enum": list(State)},
            "replicas": {
                **exactly({"registered": INTEGER}, {"running": INTEGER, "starting": INTEGER}),
                "description": "registered: with the store, which is what prompts go by; the others as Serve sees them",
            },
        },
        {
            "reason": {**STRING, "description": "Why it is not simply running"},
            "detail": {**STRING, "description": "The error behind it, for admins"},
        },
    )
)
GET = Operation(response=exactly({"exists": {"const": True}, "model": MODEL, "platform": PLATFORM}))
LIST = Operation(
    response=exactly(
        {
            "models": list_of(MODEL),
            "defaultModelId": STRING,
            "aliases": {"type": "object", "additionalProperties": STRING, "description": "Model ids by alias"},
            "states": {
                "type": "object",
                "additionalProperties": {"enum": list(State)},
                "description": "By model id, as in a model's status",
            },
        },
        {
            "splits": {
                "type": "object",
                "additionalProperties": {"type": "object", "additionalProperties": {"type": "number"}},
                "description": "Weights by model id, by the name that a prompt may give as its model",
            }
        },
    )
)
PLATFORMS = Operation(response=exactly({"platforms": list_of(PLATFORM)}))
DONE = Operation(response=NOTHING)

HEALTH = Operation(
    response=exactly(
        {
            "status": {"const": "ok"},
            "models": {
                "type": "object",
                "description": "By model id",
                "additionalProperties": exactly(
                    {"running": BOOLEAN, "waiting": INTEGER, "blocked": INTEGER, "leased": INTEGER}
                ),
            },
        }
    )
)


def of_model(operation: Operation, settings: Settings) -> Operation:
    """``operation`` on the model in the path."""
    model_id = Parameter(
        name="model_id",
        place="path",
        description="An id or alias of the catalogue",
        schema={"enum": settings.model_names},
    )
    return replace(operation, parameters=(model_id,))
