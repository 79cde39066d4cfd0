"""Errors as FastAPI writes them: ``{"detail": ...}`` with a text, or a list of what is wrong with a request (contract A.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.responses import Response

from pipeline.errors import ClientError, PromptSvcError
from pipeline.json_text import InvalidJson

#: pydantic 2's name of a problem -> the words and the name that pydantic 1 has for it. ``{}`` is filled from the context.
_WORDS: dict[str, tuple[str, str]] = {
    "missing": ("field required", "value_error.missing"),
    "string_type": ("str type expected", "type_error.str"),
    "int_type": ("value is not a valid integer", "type_error.integer"),
    "int_parsing": ("value is not a valid integer", "type_error.integer"),
    "int_from_float": ("value is not a valid integer", "type_error.integer"),
    "int_parsing_size": ("value is not a valid integer", "type_error.integer"),
    "float_type": ("value is not a valid float", "type_error.float"),
    "float_parsing": ("value is not a valid float", "type_error.float"),
    "finite_number": ("value is not a valid float", "type_error.float"),
    "bool_type": ("value could not be parsed to a boolean", "type_error.bool"),
    "bool_parsing": ("value could not be parsed to a boolean", "type_error.bool"),
    "dict_type": ("value is not a valid dict", "type_error.dict"),
    "model_type": ("value is not a valid dict", "type_error.dict"),
    "model_attributes_type": ("value is not a valid dict", "type_error.dict"),
    "list_type": ("value is not a valid list", "type_error.list"),
    "tuple_type": ("value is not a valid list", "type_error.list"),
    "too_long": ("ensure this value has at most {max_length} items", "value_error.list.max_items"),
    "string_too_long": ("ensure this value has at most {max_length} characters", "value_error.any_str.max_length"),
    "string_too_short": ("ensure this value has at least {min_length} characters", "value_error.any_str.min_length"),
    "greater_than": ("ensure this value is greater than {gt}", "value_error.number.not_gt"),
    "greater_than_equal": ("ensure this value is greater than or equal to {ge}", "value_error.number.not_ge"),
    "less_than_equal": ("ensure this value is less than or equal to {le}", "value_error.number.not_le"),
    "enum": ("value is not a valid enumeration member; permitted: {expected}", "type_error.enum"),
}


class Refused(ClientError):
    """A request that cannot be served as it is, with the status and the words of the contract."""

    def __init__(self, status: int, detail: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.retry_after_s = retry_after_s


class InvalidRequest(ClientError):
    """Unprocessable Entity"""

    status = 422

    def __init__(self, problems: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        self.problems = problems


def invalid(where: str, field: str | None, words: str, kind: str = "value_error") -> InvalidRequest:
    """One problem with a field of the ``body``, ``query`` or ``header``, or with all of it."""
    return InvalidRequest([{"loc": [where, *([field] if field else [])], "msg": words, "type": kind}])


def invalid_request(where: str, error: ValidationError) -> InvalidRequest:
    """What pydantic found wrong with the body or the query; nothing of what was sent is in it."""
    return InvalidRequest([_problem(where, issue) for issue in error.errors(include_url=False)])


def _problem(where: str, issue: ErrorDetails) -> dict[str, Any]:
    loc = [where, *issue["loc"]]
    if issue["type"] != "missing" and issue["input"] is None:
        return {"loc": loc, "msg": "none is not an allowed value", "type": "type_error.none.not_allowed"}
    context = issue.get("ctx", {})
    words, kind = _WORDS.get(issue["type"], (issue["msg"], "value_error"))
    return {"loc": loc, "msg": words.format_map(context) if issue["type"] in _WORDS else words, "type": kind}


def error_reply(error: PromptSvcError | HTTPException) -> Response:
    """The reply for any error on a path of the door."""
    if isinstance(error, HTTPException):
        return _detail(error.status_code, error.detail, error.headers)
    headers: dict[str, str] = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    match error:
        case InvalidRequest():
            return _detail(error.status, error.problems, headers)
        case InvalidJson():
            problem = {"loc": ["body"], "msg": error.message, "type": "value_error.jsondecode"}
            return _detail(422, [problem], headers)
        case _:
            return _detail(error.status, error.message, headers)


def _detail(status: int, detail: Any, headers: Mapping[str, str] | None) -> Response:
    return Response(orjson.dumps({"detail": detail}), status, headers, media_type="application/json")
