"""What the routes for callers themselves say of themselves in the OpenAPI document."""

from __future__ import annotations

from deployments.ingress.operation import BOOLEAN, NOTHING, STRING, TIME, Operation, exactly
from deployments.ingress.user_svc_operations import USER
from pipeline.accounts import MIN_PASSWORD
from pipeline.passwords import MAX_PASSWORD

HAS = Operation(
    request={"type": "object"},
    response=exactly(
        {
            "app": exactly({"host": STRING, "id": STRING}),
            "appId": STRING,
            "authorized": BOOLEAN,
            "until": {**TIME, "description": "How long the answer may be kept"},
            "user": USER,
        }
    ),
)
CHANGE_PASSWORD = Operation(
    request={
        "type": "object",
        "properties": {
            "currentPassword": {"type": "string", "minLength": 1, "maxLength": MAX_PASSWORD},
            "newPassword": {"type": "string", "minLength": MIN_PASSWORD, "maxLength": MAX_PASSWORD},
        },
        "required": ["currentPassword", "newPassword"],
    },
    response=NOTHING,
    errors=(429,),
)
STREAM_TICKET = Operation(
    request={"type": "object"}, response=exactly({"ticket": STRING, "expiresAt": TIME}), errors=(429,)
)
