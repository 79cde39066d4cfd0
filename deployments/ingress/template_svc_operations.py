"""What the routes of saved templates say of themselves in the OpenAPI document."""

from __future__ import annotations

from deployments.ingress.operation import NOTHING, STRING, TIME, Component, Link, Operation, exactly, list_of

TEMPLATE = Component(
    name="Template",
    schema=exactly(
        {
            "name": STRING,
            "template": STRING,
            "variables": {**list_of(STRING), "description": "Those a prompt has to give"},
            "createdAt": TIME,
            "updatedAt": TIME,
        }
    ),
)
LIST = Operation(request={"type": "object"}, response=exactly({"templates": list_of(TEMPLATE)}))
DELETE = Operation(response=NOTHING)
#: The answer to one that was saved.
SAVED = exactly({"template": TEMPLATE})
SAVED_LINKS = (Link(to="DELETE /prompt-svc/template/{name}", parameter="name", value="$response.body#/template/name"),)
