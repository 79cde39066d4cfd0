"""What policy-svc's routes say of themselves in the OpenAPI document."""

from __future__ import annotations

from deployments.ingress.accepted import ARRAY_TEXT, INTEGER_TEXT, NULL, Form
from deployments.ingress.operation import (
    BOOLEAN,
    INTEGER,
    NOTHING,
    STRING,
    Component,
    Operation,
    Parameter,
    Schema,
    exactly,
    list_of,
)
from pipeline.policy import MOST_BLOCKED, MOST_REQUESTS, Entity, Scope, Template

_NETWORKS = {**list_of(STRING), "description": "Addresses, or networks such as 203.0.113.0/24"}
_OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_NETWORK: Form = {
    "anyOf": [
        {"type": "string", "pattern": rf"^{_OCTET}(\.{_OCTET}){{3}}(/([0-9]|[12][0-9]|3[0-2]))?$"},
        {"type": "string", "format": "ipv6"},
    ]
}

_RATE_LIMIT = Component(
    name="RateLimit",
    schema={
        "type": "object",
        "properties": {
            "maxRequests": {
                "anyOf": [{"type": "integer", "minimum": 1, "maximum": MOST_REQUESTS}, INTEGER_TEXT],
            },
            "timeWindow": {
                "type": "string",
                "format": "time-window",
                "description": "Such as 30s, 1m or 1h30m; up to 31d",
            },
            "entity": {"enum": [*Entity, "user", None], "description": "Whose requests are counted; userId if absent"},
            "scope": {"enum": [*Scope, None], "description": "Which are counted together; endpoint if absent"},
        },
        "required": ["maxRequests", "timeWindow"],
    },
)
_BLOCKLIST = Component(
    name="Blocklist",
    schema={
        "type": "object",
        "properties": {
            "blockedIPs": {
                "anyOf": [
                    {"type": "array", "items": _NETWORK, "maxItems": MOST_BLOCKED},
                    *_NETWORK["anyOf"],
                    ARRAY_TEXT,
                ]
            }
        },
        "required": ["blockedIPs"],
    },
)
#: Both are read, and what the template does not use is not kept.
_PARAMETERS: Form = {"rateLimit": {"anyOf": [_RATE_LIMIT, NULL]}, "blocklist": {"anyOf": [_BLOCKLIST, NULL]}}


def _instance(text: Form, template: Template, key: str, needed: Schema) -> Form:
    return {
        "type": "object",
        "properties": {
            "endpoint": {"anyOf": [text, NULL], "description": "The path of an endpoint; empty: every one"},
            "templateId": {"const": template.value},
            "parameters": {"type": "object", "properties": {**_PARAMETERS, key: needed}, "required": [key]},
        },
        "required": ["templateId", "parameters"],
    }


def upsert(text: Form) -> Operation:
    """Of PUT /policy-svc/instance/{instance_id}; ``text`` is the schema of ids and endpoints."""
    draft = Component(
        name="PolicyDraft",
        schema={
            "anyOf": [
                _instance(text, Template.RATE_LIMIT, "rateLimit", _RATE_LIMIT),
                _instance(text, Template.BLOCKLIST, "blocklist", _BLOCKLIST),
            ]
        },
    )
    return Operation(
        request={"type": "object", "properties": {"instance": draft}, "required": ["instance"]},
        response=NOTHING,
        parameters=(Parameter(name="instance_id", place="path", schema={**text["anyOf"][0], "minLength": 1}),),
        errors=(409,),
    )


def check(text: Form) -> Operation:
    """Of POST /policy-svc/check; ``text`` is the schema of endpoints and users' ids."""
    return Operation(
        request={
            "type": "object",
            "properties": {
                "endpoint": {"anyOf": [text, NULL]},
                "ip": {"anyOf": [*_NETWORK["anyOf"], {"const": ""}, NULL]},
                "userId": {"anyOf": [text, NULL]},
            },
        },
        response=exactly({"allowed": BOOLEAN}),
    )


POLICY = Component(
    name="Policy",
    schema=exactly(
        {
            "id": STRING,
            "endpoint": STRING,
            "templateId": {"enum": list(Template)},
            "parameters": {
                "anyOf": [
                    exactly(
                        {
                            "rateLimit": exactly(
                                {
                                    "maxRequests": INTEGER,
                                    "timeWindow": STRING,
                                    "entity": {"enum": list(Entity)},
                                    "scope": {"enum": list(Scope)},
                                }
                            )
                        }
                    ),
                    exactly({"blocklist": exactly({"blockedIPs": _NETWORKS})}),
                ]
            },
        }
    ),
)
REMOVE = Operation(request={"type": "object"}, response=NOTHING)
LIST = Operation(request={"type": "object"}, response=exactly({"instances": list_of(POLICY)}))
