"""Types of wire fields, with the coercions that the ``oo`` command line needs (contract §9.3), and the base of request bodies.

The command line sends integers and the words of booleans as such and everything else as a string, so a string field may
arrive as a number, a float as a string, and a list as the text of one.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Self, get_args

import orjson
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from deployments.ingress.accepted import (
    BOOLEAN_TEXT,
    INTEGER_TEXT,
    NUMBER_TEXT,
    OBJECT_TEXT,
    Also,
    describe_wire_object,
)
from deployments.ingress.body import kind_of
from pipeline.errors import InvalidField, Shown
from pipeline.json_text import InvalidJson, parse, printable

_INTEGER = re.compile(r"[+-]?[0-9]{1,20}\Z")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?\Z")
_BOOLEANS = {"true": True, "false": False, "t": True, "f": False, "1": True, "0": False}
#: Above this a float is not the integer that was sent: JSON's integers beyond 64 bits arrive as floats.
_EXACT = 2**53
#: Characters of a wrong value that an error message shows.
_SHOWN_VALUE = 40


class Private:
    """Marks a field whose text an error message never shows: prompts, templates, passwords."""


def _as_text(value: object) -> object:
    if isinstance(value, bool | float):
        return orjson.dumps(value).decode()
    # orjson knows integers of 64 bits only.
    return str(value) if isinstance(value, int) else value


def _as_exact_text(value: object) -> object:
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
        value = int(value)
    return value if isinstance(value, float) else _as_text(value)


def _as_integer(value: object) -> object:
    if isinstance(value, str) and _INTEGER.match(value):
        return int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
        return int(value)
    if isinstance(value, bool | str | float):
        raise ValueError("not an integer")
    return value


def _as_number(value: object) -> object:
    if isinstance(value, str) and len(value) <= 64 and _NUMBER.match(value):
        value = float(value)
    if isinstance(value, bool | str) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError("not a finite number")
    return value


def _as_boolean(value: object) -> object:
    if isinstance(value, str):
        return _BOOLEANS.get(value.lower(), value)
    return bool(value) if value in (0, 1) else value


def json_inside(value: Any, opening: str) -> Any:
    """What a string holds as JSON text, if it looks like it and is; else the value itself."""
    if isinstance(value, str) and value.lstrip()[:1] == opening:
        try:
            return parse(value)
        except InvalidJson:
            return value
    return value


def _as_object(value: object) -> object:
    return json_inside(value, "{")


def _as_strings(value: object) -> object:
    """One string, a list, or the text of a JSON list of strings (``[`` alone is a string like any other)."""
    inside = json_inside(value, "[")
    if isinstance(inside, list) and inside is not value and not all(isinstance(item, str) for item in inside):
        inside = value
    return inside if isinstance(inside, list) else [inside]


def has_controls(value: str) -> bool:
    """Whether there are control characters or line ends in it, which names and ids are without."""
    return any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in value)


Text = Annotated[str, BeforeValidator(_as_text), Field(strict=True), Also({"type": "number"}, {"type": "boolean"})]
#: Text that a number only stands for if it is an integer of 64 bits: the text of others is not what was sent.
ExactText = Annotated[str, BeforeValidator(_as_exact_text), Field(strict=True)]
PrivateText = Annotated[Text, Private()]
Integer = Annotated[int, BeforeValidator(_as_integer), Field(strict=True), Also(INTEGER_TEXT)]
Number = Annotated[float, BeforeValidator(_as_number), Also(NUMBER_TEXT)]
Boolean = Annotated[bool, BeforeValidator(_as_boolean), Field(strict=True), Also({"enum": [0, 1]}, BOOLEAN_TEXT)]
#: Any object, not looked into.
Object = Annotated[dict[str, Any], BeforeValidator(_as_object), Field(strict=True), Private(), Also(OBJECT_TEXT)]
#: A string or several.
Strings = Annotated[
    tuple[Text, ...], BeforeValidator(_as_strings), Private(), Also({"type": ["string", "number", "boolean"]})
]
#: The same of ``ExactText``.
ExactStrings = Annotated[tuple[ExactText, ...], BeforeValidator(_as_strings), Private()]


class WireModel(BaseModel):
    """A request object: camelCase keys, unknown ones ignored, ``null`` is absent, and an empty string is what it is.

    Keys match without regard to case, an exact match wins (contract §0.2). An object may come as its JSON text.
    """

    model_config = ConfigDict(
        extra="ignore",
        frozen=True,
        alias_generator=to_camel,
        populate_by_name=False,
        hide_input_in_errors=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _read_wire_object(cls, value: Any) -> Any:
        value = json_inside(value, "{")
        return cls.canonical(value) if isinstance(value, dict) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return describe_wire_object(schema, handler)

    @classmethod
    def canonical(cls, value: Mapping[str, Any]) -> dict[str, Any]:
        """``value`` with this model's spelling of the keys it knows, without nulls."""
        names = {name.lower(): name for name in by_alias(cls)}
        exact = set(names.values())
        return {
            key if key in exact or (name := names.get(key.lower(), key)) in value else name: item
            for key, item in value.items()
            if item is not None
        }

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Self:
        """The object in ``body``.

        Raises:
            InvalidField: names the first wrong field as a dotted path, what it got and what is allowed.
        """
        try:
            return cls.model_validate(dict(body))
        except ValidationError as error:
            raise invalid_field(error, cls) from None


def show(value: object) -> Shown:
    """A scalar as JSON, shortened; of anything else only what kind it is."""
    if isinstance(value, bool | int | float):
        return Shown(orjson.dumps(value).decode() if not _is_huge(value) else "a number")
    if isinstance(value, str) and len(value) <= _SHOWN_VALUE:
        return Shown(orjson.dumps(value).decode())
    return Shown(kind_of(value))


def invalid_field(error: ValidationError, model: type[BaseModel]) -> InvalidField:
    """The first problem of ``error`` for the client. What is allowed is the description of the field."""
    issue = error.errors(include_url=False)[0]
    location = [part for part in issue["loc"] if isinstance(part, str | int)]
    path = ".".join(printable(str(part)) for part in location) or "body"
    if issue["type"] == "extra_forbidden":
        known = _fields_at(model, location[:-1])
        return InvalidField(path, Shown("an unknown key"), f"one of {', '.join(sorted(known))}")
    field = _field_at(model, location)
    allowed = (_description(field) if field else None) or _fallback(issue)
    if issue["type"] == "missing":
        return InvalidField(path, Shown("nothing"), allowed)
    private = field is None or _is_private(field)
    got = Shown(kind_of(issue["input"])) if private else show(issue["input"])
    return InvalidField(path, got, allowed + ("" if private else _meant(issue)))


def _meant(issue: Any) -> str:
    """The word of an enumeration that is most like the one that is none of them."""
    if issue["type"] not in ("enum", "literal_error") or not isinstance(issue["input"], str):
        return ""
    # Pydantic tells them in a sentence only.
    words = {word.casefold(): word for word in re.findall(r"'([^']+)'", issue["ctx"]["expected"])}
    near = get_close_matches(issue["input"][:_SHOWN_VALUE].casefold(), words, n=1, cutoff=0.8)
    return f"; did you mean {words[near[0]]}?" if near else ""


def _is_huge(value: float) -> bool:
    return isinstance(value, int) and not -(2**63) <= value < 2**64


def _fallback(issue: Any) -> str:
    kind = str(issue["type"])
    words: dict[str, str] = {
        "string_type": "a string",
        "int_type": "an integer",
        "float_type": "a number",
        "bool_type": "true or false",
        "dict_type": "an object",
        "model_type": "an object",
    }
    return words.get(kind, str(issue["msg"]))


def _marks(field: FieldInfo) -> Iterator[Any]:
    """What a field is annotated with, also where that hides in a union with None."""
    yield from field.metadata
    for option in get_args(field.annotation):
        yield from getattr(option, "__metadata__", ())


def _is_private(field: FieldInfo) -> bool:
    return any(isinstance(mark, Private) for mark in _marks(field))


def _description(field: FieldInfo) -> str | None:
    inner = (mark.description for mark in _marks(field) if isinstance(mark, FieldInfo))
    return field.description or next(filter(None, inner), None)


def _fields_at(model: type[BaseModel], location: list[str | int]) -> dict[str, FieldInfo]:
    """The fields, by wire name, of the object at ``location``."""
    current = model
    for part in location:
        field = by_alias(current).get(str(part))
        nested = field and model_of(field)
        if not nested:
            return {}
        current = nested
    return by_alias(current)


def _field_at(model: type[BaseModel], location: list[str | int]) -> FieldInfo | None:
    """The innermost declared field on the way to ``location`` (an item of a list counts as its field)."""
    found: FieldInfo | None = None
    current: type[BaseModel] | None = model
    for part in location:
        if current is None:
            break
        found = by_alias(current).get(str(part))
        current = model_of(found) if found else None
    return found


def by_alias(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def model_of(field: FieldInfo) -> type[BaseModel] | None:
    for option in (field.annotation, *get_args(field.annotation)):
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None
