"""What user-svc's routes say of themselves in the OpenAPI document."""

from __future__ import annotations

from deployments.ingress.operation import INTEGER, STRING, TIME, Component, Operation, exactly, list_of
from pipeline.accounts import MAX_NAME, MIN_PASSWORD
from pipeline.passwords import MAX_PASSWORD

#: Characters of the names of hosts and devices that a token carries.
MAX_HOST = 256

TOKEN = Component(
    name="Token",
    schema=exactly(
        {
            "appId": STRING,
            "createdAt": TIME,
            "device": STRING,
            "expiresAt": TIME,
            "id": STRING,
            "token": {**STRING, "description": "The JWT"},
            "updatedAt": TIME,
            "userId": STRING,
        }
    ),
)
USER = Component(
    name="User",
    schema=exactly({"id": STRING, "createdAt": TIME, "updatedAt": TIME, "slug": STRING}, {"name": STRING}),
)

#: Numbers and words of booleans are read as the text they are, as the command line sends them.
_TEXT = {"type": ["string", "number", "boolean"]}
_OPTIONAL_TEXT = {"type": ["string", "number", "boolean", "null"]}
_LEAST, _MOST = -(2**63), 2**64 - 1
_EXACT_TEXT = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "integer", "minimum": _LEAST, "maximum": _MOST},
        {"type": "boolean"},
    ]
}
_APP_HOST = {**_TEXT, "minLength": 1, "maxLength": MAX_HOST}
_DEVICE = {**_OPTIONAL_TEXT, "maxLength": MAX_HOST}

_LOGIN = Component(
    name="Login",
    schema={
        "type": "object",
        "properties": {
            "appHost": _APP_HOST,
            "slug": _EXACT_TEXT,
            "password": {**_EXACT_TEXT, "maxLength": MAX_PASSWORD},
            "name": _OPTIONAL_TEXT,
            "device": _DEVICE,
        },
        "required": ["appHost", "slug", "password"],
    },
)
NEW_PASSWORD = {
    "anyOf": [
        {"type": "string", "minLength": MIN_PASSWORD, "maxLength": MAX_PASSWORD},
        {"type": "integer", "minimum": 10 ** (MIN_PASSWORD - 1), "maximum": _MOST},
        {"type": "integer", "minimum": _LEAST, "maximum": -(10 ** (MIN_PASSWORD - 2))},
    ]
}
_REGISTRATION = Component(
    name="Registration",
    schema={
        "type": "object",
        "properties": {
            "appHost": _APP_HOST,
            "slug": {
                "anyOf": [
                    {"type": "string", "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$", "minLength": 1, "maxLength": 64},
                    {"type": "integer", "minimum": 0, "maximum": _MOST},
                    {"type": "boolean"},
                ]
            },
            "password": NEW_PASSWORD,
            "name": {**_OPTIONAL_TEXT, "maxLength": MAX_NAME},
            "device": _DEVICE,
        },
        "required": ["appHost", "slug", "password"],
    },
)
_TOKEN_REPLY = exactly({"token": TOKEN})

LOGIN = Operation(request=_LOGIN, response=_TOKEN_REPLY, errors=(401, 429))
REGISTER = Operation(request=_REGISTRATION, response=_TOKEN_REPLY, errors=(409, 429))
SELF = Operation(
    request={"type": "object"},
    response=exactly(
        {
            "user": USER,
            "roles": list_of(STRING),
            "organizations": list_of({"type": "object"}),
            "contacts": list_of({"type": "object"}),
            "tokenCount": INTEGER,
        }
    ),
)
REFRESH_TOKEN = Operation(response=_TOKEN_REPLY)
PUBLIC_KEY = Operation(response=exactly({"publicKey": {**STRING, "description": "PEM"}}))
