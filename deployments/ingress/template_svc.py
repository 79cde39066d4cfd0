"""prompt-svc's saved templates: create or replace, list, delete; each user has their own (beyond the document, which promises
"user-defined prompt templates")."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, Field
from starlette.requests import Request
from starlette.responses import Response

from deployments.ingress import wire
from deployments.ingress.accepted import Limited, Only
from deployments.ingress.auth import Gate, GuardedRoute, Permission, principal
from deployments.ingress.body import kind_of, read_json
from deployments.ingress.fields import PrivateText, Text, WireModel, has_controls
from deployments.ingress.operation import Operation
from deployments.ingress.routing import RoutesBelow
from deployments.ingress.template_svc_operations import DELETE, LIST, SAVED, SAVED_LINKS
from deployments.settings import Settings
from pipeline.errors import InvalidField, NotFound, Shown
from pipeline.store.connection import translated_errors
from pipeline.store.templates import MOST_CHARACTERS, SavedTemplate, TemplateStore
from pipeline.template import PROMPT, unescape_newlines, variables_of

_NAME_RULE = "a string of 1 to 64 characters without control characters, not blank"
_TEMPLATE_RULE = f"a string of at most {MOST_CHARACTERS} characters that contains {{prompt}} or another variable"

#: Some character of a name is not blank.
_NAME = (
    "^[^\\u0000-\\u001f\\u007f-\\u009f\\u2028\\u2029]*"
    "[^\\u0000-\\u0020\\u007f-\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]"
    "[^\\u0000-\\u001f\\u007f-\\u009f\\u2028\\u2029]*$"
)
_WITH_VARIABLE = r"(^|[^{])\{[A-Za-z_][A-Za-z0-9_]{0,63}\}($|[^}])"


def _name(value: str) -> str:
    if has_controls(value) or not value.strip() or len(value) > 64:
        raise ValueError(_NAME_RULE)
    return value


class TemplateRequest(WireModel):
    name: Annotated[
        Text, AfterValidator(_name), Limited(minLength=1, maxLength=64, pattern=_NAME), Field(description=_NAME_RULE)
    ]
    template: Annotated[
        PrivateText,
        Only({"type": "string", "maxLength": MOST_CHARACTERS, "pattern": _WITH_VARIABLE}),
        Field(max_length=MOST_CHARACTERS, description=_TEMPLATE_RULE),
    ]


class TemplateSvc:
    """The endpoints of saved templates."""

    def __init__(self, settings: Settings, templates: TemplateStore) -> None:
        self._settings = settings
        self._templates = templates

    def routes(self, gate: Gate) -> list[GuardedRoute]:
        route = RoutesBelow("/prompt-svc", gate)
        saves = Operation(request=TemplateRequest, response=SAVED, errors=(409,), links=SAVED_LINKS)

        return [
            route("POST", "/template", self.save, Permission.TEMPLATE_EDIT, saves),
            route("POST", "/templates", self.list, Permission.TEMPLATE_VIEW, LIST),
            route("DELETE", "/template/{name}", self.delete, Permission.TEMPLATE_EDIT, DELETE),
        ]

    async def save(self, request: Request) -> Response:
        """Save a template under a name, in place of an earlier one of that name.

        Each `{name}` in it is a variable of the prompts that use it, `{prompt}` the prompt itself; `{{name}}` is text.
        """
        wanted = TemplateRequest.parse(await read_json(request, max_bytes=self._settings.max_body_bytes))
        if not variables_of(unescape_newlines(wanted.template)):
            raise InvalidField("template", Shown(f"{kind_of(wanted.template)} without one"), _TEMPLATE_RULE)
        with translated_errors():
            saved = await self._templates.save(principal(request).user_id, wanted.name, wanted.template)
        return _json({"template": template_object(saved)})

    async def list(self, request: Request) -> Response:
        """All templates of the caller, by name; a user has too few for pages."""
        await read_json(request, max_bytes=self._settings.max_body_bytes)
        with translated_errors():
            saved = await self._templates.all(principal(request).user_id)
        return _json({"templates": [template_object(template) for template in saved]})

    async def delete(self, request: Request) -> Response:
        """Forget a template; prompts that use it already are not changed."""
        with translated_errors():
            found = await self._templates.delete(principal(request).user_id, request.path_params["name"])
        if not found:
            raise NotFound
        return _json({})


def template_object(saved: SavedTemplate) -> dict[str, Any]:
    """``variables`` are those a prompt has to give; ``{prompt}`` is always there."""
    names = variables_of(unescape_newlines(saved.template))
    return {
        "name": saved.name,
        "template": saved.template,
        "variables": [name for name in names if name != PROMPT],
        "createdAt": wire.timestamp(saved.created_us),
        "updatedAt": wire.timestamp(saved.updated_us),
    }


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
