"""GET /openapi.json: the OpenAPI document of the routes that are mounted, put together from what they say of themselves."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import orjson
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema
from starlette.requests import Request
from starlette.responses import Response

from deployments.ingress.accepted import NULL, either
from deployments.ingress.auth import Access, Gate, GuardedRoute, Permission
from deployments.ingress.fields import WireModel
from deployments.ingress.operation import STRING, Component, Link, Operation, Parameter, Schema, exactly
from deployments.ingress.tickets import PARAMETER

OPENAPI_VERSION = "3.1.0"
_DESCRIPTION = """Bodies are JSON whatever their Content-Type says; keys are matched without regard to case. Strings hold any
characters but NUL and lone surrogates. What a schema calls the text of a value is understood wherever that value is."""
#: Why every route may answer so; the rest is the route's own.
_ALWAYS = (500, 503)
#: Statuses of a success, by whether it may be of a part.
_SUCCESSES = {False: (200,), True: (200, 206)}
_DONE = {200: "Done", 206: "The range that was asked for"}
_TICKET = "From POST /user-svc/stream-ticket: good for one stream, within half a minute"
_REASONS = {
    400: "A value is wrong or missing; the message names it, what it got and what is allowed",
    401: "No token, a bad or expired one, a permission it lacks, or wrong credentials",
    404: "There is no such thing, or it is another user's",
    405: "The path exists, but not with this method",
    408: "The upload took too long",
    409: "It exists already with other content, or there are as many as there can be",
    413: "The body is too large",
    415: "The body is compressed, or of a type that is not read here",
    416: "The range is not one of the file",
    429: "Too many requests; come back after Retry-After seconds",
    500: "A fault of the service",
    503: "The store is away or takes no writes; come back after Retry-After seconds",
}
_RETRY_AFTER = {"description": "Seconds to wait", "schema": {"type": "string", "pattern": "^[1-9][0-9]*$"}}
_PLACEHOLDER = re.compile(r"\{(\w+)\}")

ERROR = Component(name="Error", schema=exactly({"error": {"type": "string", "description": "One line"}}))


class OpenApi:
    """Serves the document of a route table, itself included."""

    def __init__(self, table: Sequence[GuardedRoute]) -> None:
        self._table = table
        self._all: Sequence[GuardedRoute] = table

    def routes(self, gate: Gate) -> list[GuardedRoute]:
        own = GuardedRoute(
            "GET",
            "/openapi.json",
            self.show,
            access=Access.PUBLIC,
            gate=gate,
            operation=Operation(response={"type": "object", "required": ["openapi", "paths"]}),
        )
        self._all = [*self._table, own]
        return [own]

    async def show(self, _request: Request) -> Response:
        """This document."""
        return Response(self._encoded, media_type="application/json")

    @cached_property
    def _encoded(self) -> bytes:
        return orjson.dumps(document(self._all))


def document(table: Sequence[GuardedRoute]) -> dict[str, Any]:
    """The OpenAPI document of the routes that say what they are.

    Raises:
        ValueError: two different schemas have the same name.
    """
    components = _Components()
    paths: dict[str, dict[str, Any]] = {}
    for route in table:
        if route.operation is not None:
            paths.setdefault(route.path, {})[route.method.lower()] = _describe(route, route.operation, components)
    return {
        "openapi": OPENAPI_VERSION,
        "info": {"title": "Prompt Svc", "version": "1", "description": _DESCRIPTION},
        "paths": paths,
        "components": {
            "schemas": components.schemas,
            "responses": components.responses,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "ticket": {"type": "apiKey", "in": "query", "name": PARAMETER, "description": _TICKET},
            },
        },
    }


def undocumented(table: Sequence[GuardedRoute]) -> list[str]:
    """Names of the routes that the document leaves out because they say nothing of themselves: there must be none."""
    return [route.name for route in table if route.operation is None or not _words(route)[0]]


class _Components:
    """Schemas and replies by name, collected while they are used."""

    def __init__(self) -> None:
        self.schemas: dict[str, Any] = {}
        self.responses: dict[str, Any] = {}

    def resolved(self, schema: Any) -> Any:
        """``schema`` with references in place of components and models, and those kept."""
        if isinstance(schema, Component):
            return self._keep(schema.name, self.resolved(schema.schema))
        if isinstance(schema, type) and issubclass(schema, WireModel):
            return self._keep(schema.__name__, self._model(schema))
        if isinstance(schema, Mapping):
            return {name: self.resolved(value) for name, value in schema.items()}
        if isinstance(schema, list | tuple):
            return [self.resolved(value) for value in schema]
        return schema

    def _model(self, model: type[WireModel]) -> dict[str, Any]:
        made = model.model_json_schema(ref_template="#/components/schemas/{model}", schema_generator=_RequestSchema)
        for name, schema in made.pop("$defs", {}).items():
            self._keep(name, schema)
        # A body is the object itself; only inside of another object may it be its JSON text.
        return dict(made["anyOf"][0])

    def _keep(self, name: str, schema: Any) -> dict[str, Any]:
        if self.schemas.setdefault(name, schema) != schema:
            raise ValueError(f"two schemas are called {name}")
        return {"$ref": f"#/components/schemas/{name}"}


class _RequestSchema(GenerateJsonSchema):
    """Without what pydantic makes up: titles, and a default where an absent field has none."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        made = super().default_schema(schema)
        if made.get("default", "") is None:
            del made["default"]
        return made


def _describe(route: GuardedRoute, operation: Operation, components: _Components) -> dict[str, Any]:
    summary, description = _words(route)
    parameters = [_parameter(parameter, components) for parameter in _all_parameters(route, operation)]
    result: dict[str, Any] = {
        "operationId": _identifier(route.name),
        "tags": [route.path.split("/")[1].removesuffix(".json") or "service"],
        "summary": summary,
        "description": description,
        "security": _security(route),
        "responses": {
            **{str(status): _success(status, operation, components) for status in _SUCCESSES[operation.partial]},
            **{str(status): _error(status, components) for status in _statuses(route, operation)},
        },
    }
    if isinstance(route.access, Permission):
        result["x-permission"] = route.access.value
    if parameters:
        result["parameters"] = parameters
    if operation.request is not None:
        required = _is_required(operation.request)
        schema = components.resolved(operation.request)
        result["requestBody"] = {
            "required": required,
            # ``null`` is an empty body is ``{}`` (contract §11.2 point 6).
            "content": {operation.request_media_type: {"schema": schema if required else either(schema, NULL)}},
        }
    return result


def _security(route: GuardedRoute) -> list[dict[str, Any]]:
    """What opens the route, one of them."""
    if route.access is Access.PUBLIC:
        return []
    return [{"bearer": []}, *([{"ticket": []}] if route.opened_by_ticket else [])]


def _success(status: int, operation: Operation, components: _Components) -> dict[str, Any]:
    content: dict[str, Any] = {operation.media_type: {"schema": components.resolved(operation.response)}}
    content |= {media_type: {} for media_type in operation.other_media_types}
    links = {_identifier(link.to): _link(link) for link in operation.links}
    return {"description": _DONE[status], "content": content, **({"links": links} if links else {})}


def _link(link: Link) -> dict[str, Any]:
    return {"operationId": _identifier(link.to), "parameters": {link.parameter: link.value}}


def _words(route: GuardedRoute) -> tuple[str, str]:
    """The first line of the endpoint's docstring and all of it, but for what it says to programmers."""
    text = re.split(r"\n\s*(?:Raises|Args|Returns):\n", inspect.getdoc(route.handler) or "")[0]
    text = text.replace("``", "`").strip()
    return text.split("\n")[0].rstrip("."), text


def _identifier(name: str) -> str:
    """The id of a route that is called ``GET /path``."""
    method, _, path = name.partition(" ")
    words = re.split(r"[^A-Za-z0-9]+", path)
    return method.lower() + "".join(word[:1].upper() + word[1:] for word in words)


def _all_parameters(route: GuardedRoute, operation: Operation) -> list[Parameter]:
    described = {parameter.name for parameter in operation.parameters if parameter.place == "path"}
    ids = [
        Parameter(name=name, place="path", required=True, schema={**STRING, "minLength": 1})
        for name in _PLACEHOLDER.findall(route.path)
        if name not in described
    ]
    return [*ids, *operation.parameters]


def _parameter(parameter: Parameter, components: _Components) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required or parameter.place == "path",
        "schema": components.resolved(parameter.schema),
        **({"description": parameter.description} if parameter.description else {}),
    }


def _statuses(route: GuardedRoute, operation: Operation) -> list[int]:
    statuses = {*_ALWAYS, *operation.errors}
    if route.access is not Access.PUBLIC:
        statuses.add(401)
    if _PLACEHOLDER.search(route.path):
        statuses.add(404)
    if operation.request is not None:
        statuses |= {400, 413, 415}
    if operation.parameters:
        statuses.add(400)
    if route.limited:
        statuses |= {401, 429}
    return sorted(statuses)


def _error(status: int, components: _Components) -> dict[str, Any]:
    """A reference to the reply that every route with this status shares."""
    if str(status) not in components.responses:
        components.responses[str(status)] = {
            "description": _REASONS[status],
            "content": {"application/json": {"schema": components.resolved(ERROR)}},
            **({"headers": {"Retry-After": _RETRY_AFTER}} if status in (429, 503) else {}),
        }
    return {"$ref": f"#/components/responses/{status}"}


def _is_required(request: Schema) -> bool:
    """Whether there must be a body: an empty one is ``{}``, so whether that will do."""
    if isinstance(request, Component):
        return _is_required(request.schema)
    if isinstance(request, Mapping):
        options = request.get("anyOf", ())
        return (
            bool(request.get("required"))
            or any(_is_required(part) for part in request.get("allOf", ()))
            or (bool(options) and all(_is_required(part) for part in options))
        )
    return any(field.is_required() for field in request.model_fields.values())
