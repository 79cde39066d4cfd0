"""What pydantic found wrong with settings, in lines for whoever wrote them."""

from __future__ import annotations

import datetime
from typing import Any, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from pipeline.errors import kind_of


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One line for each wrong field of the model: what is wrong, and, unless a secret may be in it, what it got."""
    return [
        # What two fields are together is told by a validator of them all, which names the one that is wrong.
        (f"{'.'.join(map(str, issue['loc']))}: " if issue["loc"] else "")
        + (issue["msg"] if issue["loc"] else issue["msg"].removeprefix("Value error, "))
        + _got(issue, model)
        for issue in error.errors()
    ]


#: Issues that need no value: it is in their message, there is none, or it is not what is wrong (and may be the secret of a
#: setting whose name has a typo).
_SAYING_ALL = frozenset({"missing", "value_error", "extra_forbidden"})


#: Values without others in them. YAML has dates.
_SCALARS = (str, int, float, datetime.date, type(None))


def _got(issue: ErrorDetails, model: type[BaseModel]) -> str:
    if issue["type"] in _SAYING_ALL:
        return ""
    annotation = _annotation_at(issue["loc"], model)
    if annotation is None or _holds(annotation, SecretStr):
        return ""
    value = issue["input"]
    # What takes anything (the arguments of an engine) takes secrets too, and a text in its place may be all of it, quoted
    # by mistake.
    return f", got {kind_of(value) if _holds(annotation, Any) else shown(value)}"


def shown(value: object) -> str:
    """A wrong value as a message may show it. A list or mapping in the wrong place, as one whose dash was forgotten, has
    whatever belongs elsewhere in it, secrets too: it is named by its kind."""
    return repr(value) if isinstance(value, _SCALARS) else kind_of(value)


def _annotation_at(location: tuple[int | str, ...], model: type[BaseModel]) -> Any:
    """The type of what belongs there in a model, or of something around it; None for an unknown name."""
    annotation: Any = model
    for part in location:
        if _is_model(annotation):
            if part not in annotation.model_fields:
                return None
            annotation = annotation.model_fields[part].annotation
        elif get_origin(annotation) is tuple and isinstance(part, int):
            annotation = get_args(annotation)[0]
        else:
            break
    return annotation


def _holds(annotation: Any, wanted: Any) -> bool:
    """Whether a value of this type may have a ``wanted`` in it."""
    if _is_model(annotation):
        return any(_holds(field.annotation, wanted) for field in annotation.model_fields.values())
    return annotation is wanted or any(_holds(part, wanted) for part in get_args(annotation))


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
