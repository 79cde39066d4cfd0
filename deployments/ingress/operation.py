"""What a route tells its clients about itself: schemas of its bodies, its parameters, its errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from deployments.ingress.fields import WireModel


@dataclass(frozen=True, kw_only=True, slots=True)
class Component:
    """A schema with a name, referred to wherever it is used."""

    name: str
    schema: Mapping[str, Any]


#: JSON Schema, in which components and the models of request bodies may stand for their references.
Schema: TypeAlias = Mapping[str, Any] | type[WireModel] | Component


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """A header or query parameter, or more about one of the path, which is any text otherwise."""

    name: str
    place: str
    description: str = ""
    required: bool = False
    schema: Schema


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """What a reply leads to: a value in it is a parameter of another route."""

    #: Method and path of that route.
    to: str
    #: Name of a parameter in its path, and where the reply has the value: an OpenAPI runtime expression.
    parameter: str
    value: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """What the OpenAPI document says of a route beyond its method, path, access and the endpoint's docstring.

    Every route has 500 and 503; one with a token 401; one with an id in its path 404; one with a body or parameters 400,
    413 and 415; one under policies 401 and 429.
    """

    #: Body of a 200.
    response: Schema
    media_type: str = "application/json"
    #: What a 200 may be as well, for clients that ask for it.
    other_media_types: tuple[str, ...] = ()
    #: Body of the request; None: whatever is sent is not looked at.
    request: Schema | None = None
    request_media_type: str = "application/json"
    parameters: tuple[Parameter, ...] = ()
    #: A 206 has a part of it.
    partial: bool = False
    #: Statuses with an error body beyond those above.
    errors: tuple[int, ...] = ()
    #: Of a 200.
    links: tuple[Link, ...] = ()


def exactly(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> dict[str, Any]:
    """An object with these keys and no others: Go clients refuse unknown and missing ones (contract §0.8)."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


STRING: Mapping[str, Any] = {"type": "string"}
INTEGER: Mapping[str, Any] = {"type": "integer"}
BOOLEAN: Mapping[str, Any] = {"type": "boolean"}
TIME: Mapping[str, Any] = {"type": "string", "format": "date-time"}
#: The answer of endpoints that have nothing to say.
NOTHING = exactly({})


def list_of(schema: Schema) -> dict[str, Any]:
    return {"type": "array", "items": schema}


def event_stream_of(event: Schema, *parameters: Parameter) -> Operation:
    """Of a route that answers with Server-Sent Events whose data is ``event``."""
    return Operation(
        response={"type": "string", "contentMediaType": "text/event-stream", "contentSchema": event},
        media_type="text/event-stream",
        parameters=parameters,
    )


def last_event_id(pattern: str) -> Parameter:
    return Parameter(
        name="Last-Event-ID",
        place="header",
        description="Id of the last event seen: the stream goes on behind it",
        schema={"type": "string", "pattern": pattern},
    )
