"""What the routes about accounts say of themselves in the OpenAPI document."""

from __future__ import annotations

from deployments.ingress.accepted import Form, name_of, one_or_list
from deployments.ingress.operation import (
    INTEGER,
    NOTHING,
    STRING,
    TIME,
    Component,
    Operation,
    Parameter,
    exactly,
    list_of,
)
from deployments.ingress.user_svc_operations import NEW_PASSWORD

#: Users of one request by id.
MOST_IDS = 100
#: Characters of an id.
MAX_ID = 128
IDS: Form = one_or_list(name_of(MAX_ID), maxItems=MOST_IDS)

USER_RECORD = Component(
    name="UserRecord",
    schema=exactly(
        {"id": STRING, "slug": STRING, "roles": list_of(STRING), "createdAt": TIME, "updatedAt": TIME},
        {"name": STRING},
    ),
)
#: The answer of a listing.
LISTED = exactly(
    {"users": list_of(USER_RECORD)},
    {
        "after": {**TIME, "description": "There are more: send it as `afterTime`"},
        "count": {**INTEGER, "minimum": 0},
    },
)
RESET_PASSWORD = Operation(
    request={
        "type": "object",
        "properties": {"newPassword": NEW_PASSWORD},
        "required": ["newPassword"],
    },
    response=NOTHING,
    parameters=(Parameter(name="user_id", place="path", schema={"type": "string", "format": "user-id"}),),
    errors=(409, 429),
)
USER_ID: Form = {"anyOf": [{"type": "string", "format": "user-id"}, {"const": ""}]}
NO_DEVICE: Form = {"const": "", "description": "Tokens are not told apart"}
