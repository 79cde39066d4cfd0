"""Schema of a listing's query in the document's dialect (contract 1backend §8); ``pipeline.query`` reads it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from deployments.ingress.accepted import ARRAY_TEXT, INTEGER_TEXT, NULL, Form
from deployments.ingress.operation import TIME, Component
from pipeline.query.conditions import KINDS, SEVERAL, Operator
from pipeline.query.fields import FIELDS, Kind, parse_path
from pipeline.query.order import Sorting
from pipeline.query.parse import DEFAULT_LIMIT, MOST, MOST_DEPTH, MOST_FILTERS, MOST_KEYS, MOST_VALUES
from pipeline.states import Status

_FLAG: Form = {"anyOf": [{"type": "boolean"}, {"enum": ["true", "false"]}, NULL]}
#: Below these names whatever the client sent: keys with dots between.
_NESTED: Form = {
    "type": "string",
    "pattern": f"^({'|'.join(name for name, kind in FIELDS.items() if kind is Kind.ANY)})(\\.[A-Za-z0-9_]{{1,14}}){{0,15}}$",
}
_VALUES: dict[Kind, Form] = {
    Kind.TEXT: {"type": "string"},
    Kind.NUMBER: {"type": "number"},
    Kind.TIME: dict(TIME),
    Kind.FLAG: {"type": "boolean"},
    Kind.TEXTS: {"type": "string"},
    Kind.ANY: {"type": ["string", "number", "boolean"]},
}
#: These compare with a piece of a text.
_PIECES = frozenset({Operator.CONTAINS, Operator.STARTS_WITH})
_OF_STATUS = frozenset({Operator.EQUALS, Operator.NOT_EQUALS, Operator.IN})


def _filters() -> list[Form]:
    """Filters of one field: fields that are alike go together."""
    alike: dict[tuple[Kind, bool], list[str]] = {}
    for name, kind in FIELDS.items():
        if name != "status":
            alike.setdefault((kind, parse_path("field", name).may_be_missing), []).append(name)
    made = []
    for (kind, may_be_missing), names in alike.items():
        field: Form = _NESTED if kind is Kind.ANY else {"enum": names}
        made += _of_field(field, kind, [_VALUES[kind], *([NULL] if may_be_missing else [])], set(Operator) - _PIECES)
        made += _of_field(field, kind, [{"type": "string"}], _PIECES)
    status: Form = {"const": "status"}
    made += _of_field(status, Kind.TEXT, [{"enum": [status.value for status in Status]}], _OF_STATUS)
    made += _of_field(status, Kind.TEXT, [{"type": "string"}], set(Operator) - _OF_STATUS)
    return made


def _of_field(field: Form, kind: Kind, values: list[Form], operators: Iterable[Operator]) -> list[Form]:
    suited = [operator for operator in Operator if operator in operators and kind in KINDS.get(operator, Kind)]
    value: Form = values[0] if len(values) == 1 else {"anyOf": values}
    made = []
    for several in (False, True):
        names = [operator.value for operator in suited if (operator in SEVERAL) == several]
        if "in" in names:
            names.append("isInList")
        most = MOST_VALUES if several else 1
        if names:
            one_or_list = {"anyOf": [value, {"type": "array", "items": value, "minItems": 1, "maxItems": most}]}
            made.append(_filter({"field": field, "operator": {"enum": names}, "value": one_or_list}))
    return made


def _filter(properties: dict[str, Form]) -> Form:
    return {"type": "object", "properties": properties, "required": list(properties)}


_FILTER = Component(name="PromptFilter", schema={"anyOf": _filters()})
_ANY_OF = _filter({"operator": {"const": "or"}, "subFilters": {"type": "array", "items": _FILTER, "minItems": 1}})


def _sort_keys() -> list[Form]:
    times = [name for name, kind in FIELDS.items() if kind is Kind.TIME]
    others = [name for name, kind in FIELDS.items() if kind not in (Kind.TIME, Kind.ANY)]
    no_numbers = [sorting.value for sorting in Sorting if sorting is not Sorting.NUMERIC]
    path: Form = {"anyOf": [{"enum": [*times, *others]}, _NESTED]}

    def sort_key(field: Form, sortings: list[Any], *required: str) -> Form:
        properties = {"field": field, "desc": _FLAG, "sortingType": {"enum": sortings}}
        return {"type": "object", "properties": properties, "required": list(required)}

    return [
        sort_key({"enum": times}, [*no_numbers, None], "field"),
        sort_key({"anyOf": [{"enum": others}, _NESTED]}, [*Sorting, None], "field"),
        sort_key({"anyOf": [path, NULL]}, [Sorting.RANDOM], "sortingType"),
    ]


def _listed(items: Form, **keywords: Any) -> Form:
    """An array, or the text of one."""
    return {"anyOf": [{"type": "array", "items": items, **keywords}, ARRAY_TEXT, NULL]}


QUERY = Component(
    name="PromptQuery",
    schema={
        "type": "object",
        "description": (
            "All filters must match, and of an `or` one of its `subFilters`, which may hold further ones: "
            f"{MOST_FILTERS} filters, {MOST_DEPTH} within each other. `after` is the one of the page before. "
            "The other dialect (`fields`, `op`, `valuesJson`, `orderBys`, `afterJson`) is understood too."
        ),
        "properties": {
            "filters": _listed({"anyOf": [_FILTER, _ANY_OF]}),
            "orderBy": _listed({"anyOf": _sort_keys()}, maxItems=MOST_KEYS),
            "limit": {
                "anyOf": [{"type": "integer", "minimum": 0, "maximum": MOST}, INTEGER_TEXT, NULL],
                "default": DEFAULT_LIMIT,
            },
            "count": _FLAG,
        },
    },
)
