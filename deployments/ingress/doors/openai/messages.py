"""Messages of a chat as chat templates take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deployments.ingress.doors.openai.errors import unsupported
from pipeline.errors import InvalidField, Shown, kind_of
from pipeline.json_text import InvalidJson, parse

MOST_MESSAGES = 1000
_ROLES = ("developer", "system", "user", "assistant", "tool")
_CONTENT_RULE = "a string, or a list of parts of the type text"
_CALLS_RULE = 'a list of {"id", "type": "function", "function": {"name", "arguments"}} with JSON text as arguments'


def chat_messages(given: Sequence[Mapping[str, Any]], *, field: str = "messages") -> tuple[Mapping[str, Any], ...]:
    """The messages for a template: content as one text, arguments of calls as objects, ``developer`` as ``system``.

    Args:
        field: what errors call them.

    Raises:
        InvalidField: one is not a message; its text is not shown.
        OpenAiError: it has images, sound or files.
    """
    if not 1 <= len(given) <= MOST_MESSAGES:
        raise InvalidField(field, Shown(f"{len(given)} of them"), f"1 to {MOST_MESSAGES} messages")
    return tuple(_message(f"{field}.{index}", message) for index, message in enumerate(given))


def last_words(messages: Sequence[Mapping[str, Any]]) -> str:
    """What the prompt is shown as elsewhere: the last message of the user's, or the last one."""
    of_user = (message["content"] for message in reversed(messages) if message["role"] == "user")
    return str(next(of_user, messages[-1]["content"]))


def _message(path: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    role = given.get("role")
    if role not in _ROLES:
        raise InvalidField(
            f"{path}.role", role if isinstance(role, str) else _shown(role), f"one of {', '.join(_ROLES)}"
        )
    calls = given.get("tool_calls") if role == "assistant" else None
    message: dict[str, Any] = {
        "role": "system" if role == "developer" else role,
        "content": _content(f"{path}.content", given.get("content"), may_be_absent=bool(calls)),
    }
    if calls:
        message["tool_calls"] = _calls(f"{path}.tool_calls", calls)
    if role == "tool":
        message["tool_call_id"] = _text(f"{path}.tool_call_id", given.get("tool_call_id"))
    if given.get("name") is not None:
        message["name"] = _text(f"{path}.name", given["name"])
    if role == "assistant" and given.get("reasoning_content") is not None:
        # What this API calls it in its answers; templates of models that think know what becomes of it.
        message["reasoning_content"] = _text(f"{path}.reasoning_content", given["reasoning_content"])
    return message


def _content(path: str, given: Any, *, may_be_absent: bool) -> str:
    if isinstance(given, str):
        return given
    if given is None and may_be_absent:
        return ""
    if not isinstance(given, list):
        raise InvalidField(path, _shown(given), _CONTENT_RULE)
    texts = []
    for index, part in enumerate(given):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in ("image_url", "input_audio", "file"):
            raise unsupported(f"{path}.{index}", f"{path}.{index}: the model takes text only, got the type {kind}")
        words = part.get("refusal" if kind == "refusal" else "text") if isinstance(part, dict) else None
        if kind not in ("text", "refusal") or not isinstance(words, str):
            raise InvalidField(f"{path}.{index}", _shown(part), _CONTENT_RULE)
        texts.append(words)
    return "\n".join(texts)


def _calls(path: str, given: Any) -> list[dict[str, Any]]:
    if not isinstance(given, list):
        raise InvalidField(path, _shown(given), _CALLS_RULE)
    calls = []
    for index, call in enumerate(given):
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            raise InvalidField(f"{path}.{index}", _shown(call), _CALLS_RULE)
        name = _text(f"{path}.{index}.function.name", function.get("name"))
        arguments = _arguments(f"{path}.{index}.function.arguments", function.get("arguments"))
        call_id = _text(f"{path}.{index}.id", call.get("id"))
        calls.append({"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}})
    return calls


def _arguments(path: str, given: Any) -> dict[str, Any]:
    """An object: templates write it as JSON themselves."""
    try:
        arguments = parse(given) if isinstance(given, str) and given.strip() else {}
    except InvalidJson:
        arguments = None
    if not isinstance(arguments, dict):
        raise InvalidField(path, _shown(given), "the JSON text of an object")
    return arguments


def _text(path: str, given: Any) -> str:
    if not isinstance(given, str):
        raise InvalidField(path, _shown(given), "a string")
    return given


def _shown(value: object) -> Shown:
    return Shown("nothing" if value is None else kind_of(value))
