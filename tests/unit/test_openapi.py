"""The OpenAPI document against the routes that are mounted and the objects that they answer with."""

import json
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from starlette.requests import Request
from starlette.responses import Response

from deployments.ingress import openapi, wire_schemas
from deployments.ingress.auth import Access, Gate, GuardedRoute, Permission, unguarded
from deployments.ingress.bearers import Bearers
from deployments.ingress.fields import Boolean, Integer, Number, Object, Strings, Text, WireModel
from deployments.ingress.openapi import document, undocumented
from deployments.ingress.operation import STRING, Component, Operation, exactly
from deployments.ingress.prompt_svc_operations import submit
from deployments.ingress.web import web_app
from deployments.settings import Settings
from tests.unit.snapshot import FOLDER
from tests.unit.whole_table import own_routes

DOCUMENT = document(own_routes())
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
}
NO_GATE = Gate(Bearers(None))  # type: ignore[arg-type]


def walk(value: Any) -> Any:
    if isinstance(value, dict):
        yield value
        for child in value.values():
            yield from walk(child)
    elif isinstance(value, list):
        for child in value:
            yield from walk(child)


def is_valid(schema: Any, value: Any) -> bool:
    return Draft202012Validator({**schema, "components": DOCUMENT["components"]}).is_valid(value)


def component(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def test_it_lists_exactly_the_mounted_routes():
    mounted = {f"{method} {route.path}" for route in own_routes() for method in route.methods or () if method != "HEAD"}
    assert set(OPERATIONS) == mounted
    assert "GET /openapi.json" in mounted


def test_every_route_says_what_it_is_and_does():
    """A route without ``operation``, or whose endpoint has no docstring: see CONTRIBUTING, "Adding a route"."""
    assert undocumented(own_routes()) == []
    assert unguarded(own_routes()) == []


@pytest.mark.parametrize("name", OPERATIONS)
def test_public_routes_are_marked_and_the_others_need_a_token(name: str):
    (route,) = (route for route in own_routes() if route.name == name)
    operation = OPERATIONS[name]
    opened_by = [{"bearer": []}, *([{"ticket": []}] if route.opened_by_ticket else [])]
    assert operation["security"] == ([] if route.access is Access.PUBLIC else opened_by)
    assert ("401" in operation["responses"]) or route.access is Access.PUBLIC
    assert operation.get("x-permission") == (route.access if isinstance(route.access, Permission) else None)


@pytest.mark.parametrize("name", OPERATIONS)
def test_routes_under_policies_may_answer_429(name: str):
    (route,) = (route for route in own_routes() if route.name == name)
    assert not route.limited or {"401", "429"} <= set(OPERATIONS[name]["responses"])


def test_a_range_of_a_file_is_a_206():
    responses = OPERATIONS["GET /file-svc/serve/upload/{file_id}"]["responses"]
    assert {"200", "206", "404", "416"} <= set(responses)
    assert responses["206"]["content"] == responses["200"]["content"]
    assert "206" not in OPERATIONS["GET /health"]["responses"]


def test_a_ticket_is_a_key_in_the_url():
    assert DOCUMENT["components"]["securitySchemes"]["ticket"].items() >= {"type": "apiKey", "in": "query"}.items()


def test_a_submission_may_be_of_what_the_catalogue_can_do():
    request = OPERATIONS["POST /prompt-svc/prompt"]["requestBody"]["content"]["application/json"]["schema"]
    assert is_valid(request, {"prompt": "x", "modelId": "documented", "type": "Translation", "priority": 2})
    assert is_valid(request, {"prompt": "x", "modelId": "", "type": "", "priority": "1"})
    assert not is_valid(request, {"prompt": "x", "modelId": "another"})
    assert not is_valid(request, {"prompt": "x", "type": "Text-to-Image"})
    assert not is_valid(request, {"prompt": "x", "priority": 3})


def catalogue(*models: Any) -> Any:
    """The schema of a submission with these models."""
    settings = Settings.parse({"redis_url": "redis://none.invalid", "models": models})
    route = GuardedRoute("POST", "/x", lambda _: None, access=Access.PUBLIC, gate=NO_GATE, operation=submit(settings))  # type: ignore[arg-type]
    made = document([route])
    schema = made["paths"]["/x"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return Draft202012Validator({**schema, "components": made["components"]})


TEXT = {"id": "org/small", "engine": "scripted", "source": "none"}
PAINTER = {
    "id": "org/painter",
    "engine": "diffusers",
    "source": "none",
    "images": {"max_pixels": 1024 * 1024, "max_images": 2, "max_steps": 50},
}


@pytest.mark.parametrize(
    "body",
    [
        {"parameters": {"textToImage": {}}},
        {"parameters": {"textToImage": {"width": 1024, "height": "8", "steps": 50, "batchSize": 2, "seed": -1}}},
        {
            "parameters": {
                "textToImage": {"aspectRatio": "16:9", "scheduler": "Euler a", "styles": "ink", "format": "jpg"}
            }
        },
        {"engineParameters": {"stableDiffusion": {"txt2Img": {"cfg_scale": "7.5", "num_inference_steps": 50}}}},
        {"engineParameters": {"stableDiffusion": {"txt2Img": {"tiling": False, "restore_faces": False}}}},
    ],
)
def test_parameters_of_pictures_are_described_where_a_model_paints(body: Any):
    assert catalogue(TEXT, PAINTER).is_valid({"prompt": "x", **body})
    assert not catalogue(TEXT).is_valid({"prompt": "x", **body})


@pytest.mark.parametrize(
    "body",
    [
        {"parameters": {"textToImage": {"width": 1025}}},
        {"parameters": {"textToImage": {"height": 7}}},
        {"parameters": {"textToImage": {"batchSize": 3}}},
        {"parameters": {"textToImage": {"restoreFaces": True}}},
        {"parameters": {"textToImage": {"aspectRatio": "0:1"}}},
        {"parameters": {"textToImage": {"scheduler": "magic"}}},
        {"parameters": {"textToImage": {"format": "gif"}}},
        {"parameters": {"textToImage": 7}},
        {"engineParameters": {"stableDiffusion": {"txt2Img": {"steps": 51}}}},
        {"engineParameters": {"stableDiffusion": {"txt2Img": {"tiling": True}}}},
    ],
)
def test_what_no_model_paints_is_not_valid_and_refused(body: Any):
    assert not catalogue(TEXT, PAINTER).is_valid({"prompt": "x", **body})


def test_names_are_unique_and_references_lead_somewhere():
    names = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(set(names)) == len(names)
    for part in walk(DOCUMENT):
        if "$ref" in part:
            _, *steps = part["$ref"].split("/")
            found: Any = DOCUMENT
            for step in steps:
                found = found[step]


def test_every_schema_is_one():
    schemas = [part["schema"] for part in walk(DOCUMENT) if "schema" in part and "properties" not in part]
    for schema in [*schemas, *DOCUMENT["components"]["schemas"].values()]:
        Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("prompt-*.json")), ids=lambda path: path.stem)
def test_a_prompt_has_the_keys_of_its_schema(path: Any):
    assert is_valid(component("Prompt"), json.loads(path.read_text()))


@pytest.mark.parametrize("path", sorted(FOLDER.glob("message-*.json")), ids=lambda path: path.stem)
def test_a_message_has_the_keys_of_its_schema(path: Any):
    assert is_valid(component("Message"), json.loads(path.read_text()))


@pytest.mark.parametrize("path", sorted(FOLDER.glob("submit-*.json")), ids=lambda path: path.stem)
def test_a_reply_to_a_submission_has_the_keys_of_its_schema(path: Any):
    reply = OPERATIONS["POST /prompt-svc/prompt"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert is_valid(reply, json.loads(path.read_text()))


def test_a_chunk_has_the_keys_of_its_schema():
    for chunk in json.loads((FOLDER / "chunks.json").read_text()).values():
        assert chunk is None or is_valid(component("Chunk"), chunk)


@pytest.mark.parametrize("name", ["Prompt", "Message"])
def test_an_object_with_another_key_is_not_valid(name: str):
    schema = getattr(wire_schemas, name.upper()).schema
    assert not is_valid(component(name), {**dict.fromkeys(schema["required"], ""), "extra": 1})


class Inner(WireModel):
    text: Text | None = None


class Outer(WireModel):
    name: Text
    count: Integer | None = None
    ratio: Number = 1.0
    on: Boolean = False
    anything: Object | None = None
    words: Strings = ()
    inner: Inner | None = None


ACCEPTED = [
    {"name": "x"},
    {"name": 5},
    {"name": True},
    {"name": "x", "count": "12", "ratio": "1e3", "on": "TRUE"},
    {"name": "x", "count": 3.0, "ratio": 2, "on": 1},
    {"name": "x", "count": None, "on": None, "anything": None, "inner": None},
    {"name": "x", "anything": {"a": []}, "words": "one", "inner": {"text": 1.5}},
    {"name": "x", "anything": '{"a": 1}', "words": ["one", 2], "inner": '{"text": "x"}', "unknown": 1},
]
REFUSED = [
    {},
    {"name": None},
    {"name": []},
    {"name": "x", "count": 1.5},
    {"name": "x", "count": True},
    {"name": "x", "ratio": True},
    {"name": "x", "on": "yes"},
    {"name": "x", "on": 2},
    {"name": "x", "anything": []},
    {"name": "x", "words": {}},
    {"name": "x", "inner": {"text": {}}},
    {"name": "x", "inner": 1},
]


@pytest.mark.parametrize("body", [*ACCEPTED, *REFUSED], ids=json.dumps)
def test_a_request_schema_accepts_what_its_model_accepts(body: dict[str, Any]):
    made = document([a_route(Operation(request=Outer, response={}))])
    schema = {**component("Outer"), "components": made["components"]}
    assert Draft202012Validator(schema).is_valid(body) == (body in ACCEPTED)
    try:
        Outer.parse(body)
        accepted = True
    except Exception:
        accepted = False
    assert accepted == (body in ACCEPTED)


async def an_endpoint(_request: Request) -> Response:
    """Do it.

    At once.

    Raises:
        Never: to be seen by programmers.
    """
    return Response()


def a_route(operation: Operation | None, endpoint: Any = an_endpoint) -> GuardedRoute:
    return GuardedRoute("PUT", "/a-svc/b/{c_id}", endpoint, access=Access.PUBLIC, gate=NO_GATE, operation=operation)


def test_the_words_are_the_docstring_for_users():
    described = document([a_route(Operation(response={}))])["paths"]["/a-svc/b/{c_id}"]["put"]
    assert described["summary"] == "Do it"
    assert described["description"] == "Do it.\n\nAt once."
    assert described["operationId"] == "putASvcBCId"
    assert described["parameters"] == [
        {"name": "c_id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    ]


def test_a_route_that_says_nothing_is_found():
    async def silent(_request: Request) -> Response:
        return Response()

    mute = a_route(None)
    wordless = a_route(Operation(response={}), silent)
    assert undocumented([mute]) == undocumented([wordless]) == ["PUT /a-svc/b/{c_id}"]
    assert document([mute])["paths"] == {}


@pytest.mark.parametrize(
    ("request_schema", "required"),
    [
        (Inner, False),
        (Outer, True),
        ({"type": "object"}, False),
        ({"type": "object", "required": ["a"]}, True),
        (Component(name="X", schema={"allOf": [Inner, {"required": ["text"]}]}), True),
        ({"allOf": [Inner]}, False),
    ],
)
def test_a_body_is_required_where_an_empty_one_will_not_do(request_schema: Any, required: bool):
    made = document([a_route(Operation(request=request_schema, response={}))])
    assert made["paths"]["/a-svc/b/{c_id}"]["put"]["requestBody"]["required"] is required


def test_two_schemas_cannot_share_a_name():
    one, two = (Component(name="Same", schema=exactly({key: STRING})) for key in "ab")
    with pytest.raises(ValueError, match="two schemas are called Same"):
        document([a_route(Operation(response={"anyOf": [one, two]}))])


async def test_it_is_served_to_anyone():
    app = web_app(own_routes())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
        answer = await client.get("/openapi.json")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == DOCUMENT
    assert answer.json()["openapi"] == openapi.OPENAPI_VERSION
