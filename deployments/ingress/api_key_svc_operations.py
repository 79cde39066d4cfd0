"""What the routes of API keys say of themselves in the OpenAPI document."""

from __future__ import annotations

from deployments.ingress.fields import WireModel
from deployments.ingress.operation import NOTHING, STRING, TIME, Component, Operation, exactly, list_of

#: Keys that one request revokes.
MOST_AT_ONCE = 100

API_KEY = Component(
    name="ApiKey",
    schema=exactly(
        {
            "id": STRING,
            "userId": STRING,
            "appId": STRING,
            "prefix": {**STRING, "description": "The first characters of the key"},
            "createdAt": TIME,
            "updatedAt": TIME,
        },
        {"name": STRING, "lastUsedAt": TIME},
    ),
)


def create(request: type[WireModel]) -> Operation:
    """Of POST /user-svc/api-key."""
    key = {**STRING, "description": "The key; it cannot be had again"}
    return Operation(request=request, response=exactly({"apiKey": API_KEY, "key": key}), errors=(409,))


LIST = Operation(request={"type": "object"}, response=exactly({"apiKeys": list_of(API_KEY)}))


def revoke(request: type[WireModel]) -> Operation:
    """Of DELETE /user-svc/api-keys."""
    return Operation(request=request, response=NOTHING, errors=(404,))
