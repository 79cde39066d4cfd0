"""What the routes of permits say of themselves in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterable

from deployments.ingress.accepted import NULL, Form, one_or_list
from deployments.ingress.operation import STRING, TIME, Component, Operation, exactly, list_of
from pipeline.permits import ANY_APP, MOST_NAMES

PERMIT = Component(
    name="Permit",
    schema=exactly(
        {
            "id": STRING,
            "appId": {**STRING, "description": f"`{ANY_APP}`: any app"},
            "permissions": list_of(STRING),
            "roles": list_of(STRING),
            "slugs": list_of(STRING),
            "createdAt": TIME,
            "updatedAt": TIME,
        },
        {"permission": {**STRING, "description": "Of a permit with a single one"}},
    ),
)
_SLUG: Form = {
    "anyOf": [
        {"type": "string", "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$", "minLength": 1, "maxLength": 64},
        {"type": "integer", "minimum": 0, "maximum": 2**64 - 1},
        {"type": "boolean"},
    ]
}


def save(*, known: Iterable[str], most: int, name: Form) -> Operation:
    """Of PUT /user-svc/permits.

    Args:
        known: permissions of this service; those of others have names of their own.
        most: permits in one request.
        name: schema of ids, roles and hosts.
    """
    ours = sorted(known)
    services = "|".join(sorted({permission.partition(":")[0] for permission in ours}))
    permission: Form = {
        "anyOf": [
            {"enum": ours},
            {
                "type": "string",
                "pattern": f"^(?!({services}):)[a-zA-Z0-9_-]+(:[a-zA-Z0-9_-]+){{1,4}}$",
                "minLength": 5,
                "maxLength": 128,
            },
        ]
    }
    several = one_or_list(permission, maxItems=MOST_NAMES)
    draft = Component(
        name="PermitDraft",
        schema={
            "type": "object",
            "properties": {
                "id": {"anyOf": [name, {"const": ""}, NULL]},
                "permission": {"anyOf": [permission, {"const": ""}, NULL]},
                "permissions": {"anyOf": [several, NULL]},
                "roles": {"anyOf": [one_or_list(name, maxItems=MOST_NAMES), NULL]},
                "slugs": {"anyOf": [one_or_list(_SLUG, maxItems=MOST_NAMES), NULL]},
                "appHost": {"anyOf": [name, {"const": ""}, NULL], "description": f"`{ANY_APP}`: any app"},
            },
            "anyOf": [
                {"properties": {"permission": permission}, "required": ["permission"]},
                {
                    "properties": {"permissions": {"type": "array", "items": permission, "minItems": 1}},
                    "required": ["permissions"],
                },
            ],
        },
    )
    return Operation(
        request={
            "type": "object",
            "properties": {"permits": {"type": "array", "items": draft, "minItems": 1, "maxItems": most}},
            "required": ["permits"],
        },
        response=_PERMITS,
        errors=(409,),
    )


_PERMITS = exactly({"permits": list_of(PERMIT)})
#: The answer of a listing.
LISTED = _PERMITS
