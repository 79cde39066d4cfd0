"""Tools of a request: which may be called, and whether one must be."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from deployments.ingress.doors.openai.errors import unsupported
from deployments.ingress.json_schema import check_schema
from deployments.settings import ModelSpec
from pipeline.engine import Parsing
from pipeline.errors import InvalidField, Shown, kind_of

MOST_TOOLS = 128
#: Bytes of the schemas of all tools of a request together.
MOST_SCHEMA_BYTES = 256 * 1024
_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}\Z")
_TOOL_RULE = (
    '{"type": "function", "function": {"name", "description"?, "parameters"?}} '
    "with a name of 1 to 64 letters, digits, _, . and -"
)
_CHOICE_RULE = 'none, auto, required, or {"type": "function", "function": {"name"}} with the name of one of the tools'


def parsing_of(
    tools: Sequence[Mapping[str, Any]] | None,
    choice: str | Mapping[str, Any] | None,
    *,
    parallel: bool,
    model: ModelSpec,
    variables: Mapping[str, Any],
) -> Parsing | None:
    """How the answer is to be taken apart; None if it is one text.

    Raises:
        InvalidField: a tool or the choice is wrong.
        OpenAiError: the model does not call tools of its own accord.
    """
    known = _tools(tools or ())
    wanted = _choice(choice, known)
    if wanted == "none":
        return Parsing(template_variables=variables) if variables or model.reasoning_parser else None
    if wanted == "auto" and model.tool_parser is None:
        raise unsupported(
            "tools",
            f"tools: the model {model.id} calls tools only where it must (tool_choice required, or one tool by its name); "
            "its entry in the catalogue has no tool_parser",
        )
    return Parsing(tools=tuple(known), tool_choice=wanted, parallel_tool_calls=parallel, template_variables=variables)


def _tools(given: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    if len(given) > MOST_TOOLS:
        raise InvalidField("tools", Shown(f"{len(given)} of them"), f"at most {MOST_TOOLS}")
    known: list[Mapping[str, Any]] = []
    size = 0
    for index, tool in enumerate(given):
        known.append(_tool(index, tool))
        size += len(orjson.dumps(known[-1]["function"]["parameters"]))
        if size > MOST_SCHEMA_BYTES:
            allowed = f"at most {MOST_SCHEMA_BYTES} bytes in the function.parameters of all"
            raise InvalidField("tools", Shown(f"more up to tools.{index}"), allowed)
    return known


def _tool(index: int, given: Mapping[str, Any]) -> Mapping[str, Any]:
    path = f"tools.{index}"
    function = given.get("function")
    if given.get("type") != "function" or not isinstance(function, dict):
        raise InvalidField(path, Shown(kind_of(given)), _TOOL_RULE)
    name, description = function.get("name"), function.get("description")
    if not isinstance(name, str) or not _NAME.match(name):
        raise InvalidField(f"{path}.function.name", Shown(kind_of(name)), _TOOL_RULE)
    if description is not None and not isinstance(description, str):
        raise InvalidField(f"{path}.function.description", Shown(kind_of(description)), "a string")
    strict = function.get("strict")
    if strict is not None and not isinstance(strict, bool):
        raise InvalidField(f"{path}.function.strict", Shown(kind_of(strict)), "true or false")
    parameters = function.get("parameters")
    if parameters is None:
        parameters = {"type": "object", "properties": {}}
    if not isinstance(parameters, dict):
        raise InvalidField(f"{path}.function.parameters", Shown(kind_of(parameters)), "a JSON schema: an object")
    try:
        check_schema(parameters)
    except ValueError as error:
        raise InvalidField(f"{path}.function.parameters", Shown("another object"), str(error)) from None
    said = {"name": name, "description": description, "parameters": parameters, "strict": strict}
    return {"type": "function", "function": {key: value for key, value in said.items() if value is not None}}


def _choice(given: str | Mapping[str, Any] | None, tools: Sequence[Mapping[str, Any]]) -> str | Mapping[str, Any]:
    if given is None:
        return "auto" if tools else "none"
    if given == "none" or (given == "auto" and not tools):
        return "none"
    if not tools:
        raise InvalidField("tool_choice", Shown("a choice without tools"), _CHOICE_RULE)
    if given in ("auto", "required"):
        return given
    function = given.get("function") if isinstance(given, Mapping) and given.get("type") == "function" else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if name not in [tool["function"]["name"] for tool in tools]:
        raise InvalidField("tool_choice", Shown(kind_of(given)), _CHOICE_RULE)
    return {"type": "function", "function": {"name": name}}
