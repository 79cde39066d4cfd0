"""What pydantic found wrong with settings, in lines for whoever wrote them."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, SecretStr, ValidationError


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One line for each wrong field of the model: what is wrong, and, unless a secret is in it, what it got."""
    return [
        # What two fields are together is told by a validator of them all, which names the one that is wrong.
        (f"{'.'.join(map(str, issue['loc']))}: " if issue["loc"] else "")
        + (issue["msg"] if issue["loc"] else issue["msg"].removeprefix("Value error, "))
        + ("" if issue["type"] in _SAYING_ALL or _is_secret(issue["loc"], model) else f", got {issue['input']!r}")
        for issue in error.errors()
    ]


#: Issues that need no value: it is in their message, there is none, or it is not what is wrong (and may be the secret of a
#: setting whose name has a typo).
_SAYING_ALL = frozenset({"missing", "value_error", "extra_forbidden"})


def _is_secret(location: tuple[int | str, ...], model: type[BaseModel]) -> bool:
    """Whether what is found there in a model may have a secret in it."""
    annotation: Any = model
    for part in location:
        if not _is_model(annotation):
            break
        if part not in annotation.model_fields:
            return True
        annotation = annotation.model_fields[part].annotation
    return holds_secret(annotation)


def holds_secret(annotation: Any) -> bool:
    """Whether a value of this type may have a secret in it."""
    if _is_model(annotation):
        return any(holds_secret(field.annotation) for field in annotation.model_fields.values())
    return annotation is SecretStr or any(map(holds_secret, get_args(annotation)))


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
