"""What request fields accept beyond their own type, as JSON Schema: the annotations that ``fields`` puts on its types.

The schema of a request is made by pydantic from the model that reads it; these tell of the coercions in front of it.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

Form: TypeAlias = dict[str, Any]

#: Text that holds a value of another type; what is allowed of the value is allowed of its text. A format and not a pattern,
#: which could not say the bounds.
NUMBER_TEXT: Form = {"type": "string", "format": "number"}
INTEGER_TEXT: Form = {"type": "string", "format": "integer"}
BOOLEAN_TEXT: Form = {"type": "string", "pattern": "^([tT]([rR][uU][eE])?|[fF]([aA][lL][sS][eE])?|[01])$"}
OBJECT_TEXT: Form = {"type": "string", "format": "json-object", "contentMediaType": "application/json"}
ARRAY_TEXT: Form = {"type": "string", "format": "json-array", "contentMediaType": "application/json"}
NULL: Form = {"type": "null"}
#: Without the characters that ``fields.has_controls`` finds.
NO_CONTROLS = "^[^\\u0000-\\u001f\\u007f-\\u009f\\u2028\\u2029]*$"
#: One character that ``str.strip`` leaves, spelt out: what \\s means differs between dialects of regular expressions.
NOT_BLANK = "[^\\u0009-\\u000d\\u001c-\\u0020\\u0085\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]"
#: pydantic leaves limits behind a validator in its own words.
_KEYWORDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


class Also:
    """The field accepts these forms too."""

    def __init__(self, *forms: Form) -> None:
        self._forms = forms

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        own = {_KEYWORDS.get(name, name): value for name, value in handler(schema).items()}
        return either(own, *self._forms)


class Limited:
    """The field's own form has these limits, which a validator checks where the schema does not show them."""

    def __init__(self, **keywords: Any) -> None:
        self._keywords = keywords

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        own = handler(schema)
        if "anyOf" not in own:
            return own | self._keywords
        first, *others = own["anyOf"]
        return own | {"anyOf": [first | self._keywords, *others]}


class Only:
    """The field's schema is this one: no other says what the validators do."""

    def __init__(self, schema: Form) -> None:
        self._schema = schema

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return dict(self._schema)


def name_of(most: int) -> Form:
    """Text of 1 to ``most`` characters without control characters, or what stands for one."""
    return {
        "anyOf": [
            {"type": "string", "minLength": 1, "maxLength": most, "pattern": NO_CONTROLS},
            {"type": ["number", "boolean"]},
        ]
    }


def either(schema: JsonSchemaValue, *forms: Form) -> JsonSchemaValue:
    """``schema`` or one of ``forms``, flat, each once; what describes the field stays beside them."""
    options = schema.get("anyOf", [schema])
    around = {} if "anyOf" not in schema else {name: value for name, value in schema.items() if name != "anyOf"}
    return {"anyOf": [*options, *(form for form in forms if form not in options)], **around}


def one_or_list(item: JsonSchemaValue, **keywords: Any) -> JsonSchemaValue:
    """``item``, an array of them with these limits, or the text of one."""
    return either(item, {"type": "array", "items": item, **keywords}, ARRAY_TEXT)


def describe_wire_object(schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
    """A ``WireModel`` where another refers to it: the object, or its JSON text. ``null`` stands for an absent field."""
    reference = handler(schema)
    own = handler.resolve_ref_schema(reference)
    required = own.get("required", ())
    for name, field in own.get("properties", {}).items():
        if name not in required:
            own["properties"][name] = either(field, NULL)
    return either(reference, OBJECT_TEXT)
