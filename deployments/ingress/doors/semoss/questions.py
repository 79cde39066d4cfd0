"""A question to a model, whichever expression it came in: as a pixel's arguments, or as those of Python's ``ask``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from deployments.ingress.body import kind_of
from deployments.ingress.doors.openai.messages import chat_messages, last_words
from deployments.ingress.doors.semoss.errors import WrongExpression
from deployments.ingress.doors.semoss.pixel import Pixel
from deployments.ingress.doors.semoss.python_code import Ask, parse_python
from deployments.ingress.fields import Boolean, Private, WireModel
from deployments.ingress.prompt_request import Id, MaxTokens, Penalty, Schema, Seed, Stop, Temperature, TopK, TopP
from pipeline.engine import SamplingParameters
from pipeline.errors import InvalidField, Shown

Chat = tuple[Mapping[str, Any], ...]
_CHAT_RULE = "a text, or messages with a role and a content"


class _Parameters(WireModel):
    """``paramValues`` of the pixel, ``param_dict`` of Python. An allow-list: what the model cannot be told is refused by name."""

    model_config = ConfigDict(extra="forbid", alias_generator=lambda name: name)

    max_completion_tokens: MaxTokens | None = None
    max_new_tokens: MaxTokens | None = None
    max_tokens: MaxTokens | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: TopK | None = None
    stop: Stop | None = None
    seed: Seed | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    stream: Annotated[Boolean, Field(description="true or false")] | None = None
    schema_: Schema | None = Field(default=None, alias="schema")
    full_prompt: Any = None
    tools: (
        Annotated[list[dict[str, Any]], Private(), Field(description="a list of tools as OpenAI has them")] | None
    ) = None
    tool_choice: Any = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What a model is asked."""

    #: Id or alias of the model.
    engine_id: str
    #: The user's words.
    text: str
    #: A whole chat, in which ``text`` is what the user said last; then there is no history beside it.
    chat: Chat | None = None
    #: Tools that the model may call, and whether it must; as they were given.
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: Any = None
    #: The system's words.
    context: str | None = None
    #: Name of the conversation, None for that of the insight.
    room_id: str | None = None
    #: Whether the model hears what was said before in the room.
    use_history: bool = True
    #: Whether polls get the answer as it is written.
    streams: bool = True
    sampling: SamplingParameters = field(default_factory=SamplingParameters)


def question_of_pixel(pixel: Pixel) -> Question:
    """The question of ``LLM(engine=…, command=…, …)``.

    Raises:
        WrongExpression: an argument is unknown or missing.
        InvalidField: one has a wrong value.
    """
    known = {"engine", "command", "context", "useHistory", "paramValues", "roomId", "image", "url"}
    if pixel.positional or pixel.named.keys() - known:
        raise WrongExpression(f"LLM: an unknown argument, allowed are {', '.join(sorted(known))}")
    return _question(
        engine_id=_single(pixel.named.get("engine")),
        command=_single(pixel.named.get("command")),
        context=_single(pixel.named.get("context")),
        room_id=_single(pixel.named.get("roomId")),
        use_history=pixel.named.get("useHistory"),
        parameters=_single(pixel.named.get("paramValues")),
        pictures={"image": pixel.named.get("image"), "url": pixel.named.get("url")},
    )


def question_of_code(code: str) -> Question:
    """The question of a Python snippet. Raises as ``question_of_pixel`` does."""
    ask: Ask = parse_python(code)
    arguments = ask.arguments
    return _question(
        engine_id=ask.engine_id,
        command=arguments.get("command") if arguments.get("command") is not None else arguments.get("question"),
        context=arguments.get("context"),
        room_id=arguments.get("room_id"),
        use_history=arguments.get("use_history"),
        parameters=arguments.get("param_dict"),
        pictures={"image": arguments.get("image"), "url": arguments.get("url")},
    )


def _question(
    *,
    engine_id: Any,
    command: Any,
    context: Any,
    room_id: Any,
    use_history: Any,
    parameters: Any,
    pictures: Mapping[str, Any],
) -> Question:
    for name, value in pictures.items():
        if value:
            raise InvalidField(name, Shown(kind_of(value)), "none: this door takes no images")
    if not isinstance(parameters, dict | None):
        raise InvalidField("paramValues", Shown(kind_of(parameters)), "an object")
    given = _Parameters.parse(parameters or {})
    chat = None if given.full_prompt is None else _chat(given.full_prompt)
    text = last_words(chat) if chat else _text("command", command)
    if not text.strip():
        raise InvalidField("command", Shown(kind_of(text)), "a string that is not blank")
    return Question(
        engine_id=_text("engine", engine_id),
        text=text,
        chat=chat,
        tools=tuple(given.tools or ()),
        tool_choice=given.tool_choice,
        context=None if context in (None, "") else _text("context", context),
        room_id=None if room_id in (None, "") else _room(room_id),
        use_history=True if use_history is None else _flag("useHistory", use_history),
        streams=given.stream is not False,
        sampling=_sampling(given),
    )


def _sampling(given: _Parameters) -> SamplingParameters:
    chosen: dict[str, Any] = {
        name: getattr(given, name)
        for name in ("temperature", "top_p", "top_k", "stop", "seed", "presence_penalty", "frequency_penalty")
        if getattr(given, name) is not None
    }
    most = given.max_completion_tokens or given.max_new_tokens or given.max_tokens
    if most is not None:
        chosen["max_tokens"] = most
    if given.schema_ is not None:
        chosen["json_schema"] = given.schema_
    if chosen.get("top_k") == -1:
        chosen["top_k"] = 0
    return SamplingParameters(**chosen)


def _chat(value: Any) -> Chat:
    if isinstance(value, str):
        return ({"role": "user", "content": value},)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise InvalidField("full_prompt", Shown(kind_of(value)), _CHAT_RULE)
    return chat_messages(value, field="full_prompt")


def _single(value: Any) -> Any:
    """What a pixel says as ``"x"`` or as ``["x"]``."""
    return value[0] if isinstance(value, list) and len(value) == 1 else (None if value == [] else value)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidField(name, Shown("nothing" if value is None else kind_of(value)), "a string")
    return value


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidField(name, Shown(kind_of(value)), "true or false")
    return value


class _Room(WireModel):
    room_id: Id


def _room(value: Any) -> str:
    """A room is a thread, so its id must be one a thread can have."""
    return _Room.parse({"roomId": value}).room_id
