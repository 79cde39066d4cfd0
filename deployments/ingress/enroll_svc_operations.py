"""What the routes of enrolls say of themselves in the OpenAPI document."""

from __future__ import annotations

from deployments.ingress.accepted import INTEGER_TEXT, NULL, Form, name_of
from deployments.ingress.operation import NOTHING, STRING, TIME, Component, Operation, exactly, list_of
from pipeline.accounts import Role
from pipeline.permits import ANY_APP
from pipeline.roles import ROLE_RULE

#: Enrolls in one request, and in one reply.
MOST_AT_ONCE = 100
MOST_LISTED = 1000
#: Characters of ids, roles and hosts.
MAX_NAME = 128

ENROLL = Component(
    name="Enroll",
    schema=exactly(
        {
            "id": STRING,
            "appId": {**STRING, "description": f"`{ANY_APP}`: any app"},
            "role": STRING,
            "userId": STRING,
            "createdBy": {**STRING, "description": "User id of who gave the role"},
            "createdAt": TIME,
            "updatedAt": TIME,
        }
    ),
)
_NAME = name_of(MAX_NAME)
_ROLE: Form = {
    "type": "string",
    "pattern": f"^(?!{Role.USER.value}$)[a-zA-Z0-9_-]+(:[a-zA-Z0-9_-]+){{1,4}}$",
    "minLength": 3,
    "maxLength": MAX_NAME,
    "description": ROLE_RULE,
}
_USER_ID: Form = {"type": "string", "format": "user-id"}
_ENROLL_ID: Form = {"anyOf": [{"type": "string", "format": "enroll-id"}, {"type": ["number", "boolean"]}]}
_ANY_TEXT: Form = {"anyOf": [{"type": "string", "minLength": 1}, {"type": ["number", "boolean"]}]}
_OPTIONAL_NAME: Form = {"anyOf": [_NAME, {"const": ""}, NULL]}
_DRAFT = Component(
    name="EnrollDraft",
    schema={
        "type": "object",
        "properties": {
            "id": _OPTIONAL_NAME,
            "role": _ROLE,
            "userId": _USER_ID,
            "contactId": {"enum": ["", None], "description": "Accounts have no contacts here"},
            "appHost": {**_OPTIONAL_NAME, "description": f"`{ANY_APP}`: any app"},
        },
        "required": ["role", "userId"],
    },
)
_ENROLLS = exactly({"enrolls": list_of(ENROLL)})

SAVE = Operation(
    request={
        "type": "object",
        "properties": {"enrolls": {"type": "array", "items": _DRAFT, "minItems": 1, "maxItems": MOST_AT_ONCE}},
        "required": ["enrolls"],
    },
    response=_ENROLLS,
    errors=(404, 409),
)
LIST = Operation(
    request={
        "type": "object",
        "properties": {
            "role": _OPTIONAL_NAME,
            "userId": _OPTIONAL_NAME,
            "contactId": {"type": ["string", "number", "boolean", "null"]},
            "after": {**_OPTIONAL_NAME, "description": "The id of the last one seen"},
            "limit": {"anyOf": [{"type": "integer", "minimum": 1, "maximum": MOST_LISTED}, INTEGER_TEXT, NULL]},
        },
        "anyOf": [
            {"properties": {"role": _NAME}, "required": ["role"]},
            {"properties": {"userId": _NAME}, "required": ["userId"]},
            {"properties": {"contactId": _ANY_TEXT}, "required": ["contactId"]},
        ],
    },
    response=_ENROLLS,
)
DROP = Operation(
    request={
        "type": "object",
        "properties": {
            "ids": {
                "anyOf": [
                    *_ENROLL_ID["anyOf"],
                    {"type": "array", "items": _ENROLL_ID, "minItems": 1, "maxItems": MOST_AT_ONCE},
                ],
                "description": "Several, or one without an array",
            }
        },
        "required": ["ids"],
    },
    response=NOTHING,
    errors=(404,),
)
