"""Errors as OpenAI's clients know them: ``{"error": {"message", "type", "param", "code"}}``, always all four (contract §4.2)."""

from __future__ import annotations

import math
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.responses import Response

from deployments.models import PromptTooLong
from pipeline.errors import ClientError, Denied, InvalidField, PromptSvcError, TooManyRequests, Unauthorized

#: The SDK tries again by itself after these and every 5xx, unless it is told not to.
_RETRIED = frozenset({408, 409, 429})
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


class OpenAiError(ClientError):
    """The request cannot be served as it is."""

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, status: int = 400, retry: bool = True
    ) -> None:
        """
        Args:
            retry: False keeps the SDK from sending it again where it would.
        """
        super().__init__(message)
        self.param = param
        self.code = code
        self.status = status
        self.retry = retry


def unsupported(param: str, message: str) -> OpenAiError:
    """A parameter that is known and not served."""
    return OpenAiError(message, param=param, code="unsupported_parameter")


def model_not_found(name: str) -> OpenAiError:
    shown = name if name.isprintable() and len(name) <= 100 else f"of {len(name)} characters"
    return OpenAiError(f"The model {shown} does not exist", param="model", code="model_not_found", status=404)


def error_reply(error: PromptSvcError | HTTPException) -> Response:
    """See ``deployments.ingress.doors.door.ErrorReply``."""
    if isinstance(error, HTTPException):
        return _reply(error.status_code, error_object(error), dict(error.headers or {}))
    status = _status(error)
    headers: dict[str, str] = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, OpenAiError) and not error.retry and (status in _RETRIED or status >= 500):
        headers["x-should-retry"] = "false"
    return _reply(status, error_object(error), headers)


def error_object(error: PromptSvcError | HTTPException) -> dict[str, Any]:
    """The error's object, with all four keys."""
    if isinstance(error, HTTPException):
        return _object(error.detail, error.status_code, None, None)
    status = _status(error)
    message = (error.message.splitlines() or [""])[0]
    match error:
        case OpenAiError():
            return _object(message, status, error.param, error.code)
        case Denied():
            return _object("You may not use this", status, None, None)
        case Unauthorized():
            return _object("Incorrect API key provided", status, None, "invalid_api_key")
        case PromptTooLong():
            return _object(message, status, None, "context_length_exceeded")
        case InvalidField():
            return _object(message, status, _PARAMS.get(error.field, error.field), None)
        case TooManyRequests():
            return _object(message, status, None, "rate_limit_exceeded")
    return _object(message, status, None, "overloaded" if status == 503 else None)


#: Prompt Svc's names of fields that this API calls otherwise.
_PARAMS = {
    "modelId": "model",
    "parameters.textToImage.width": "size",
    "parameters.textToImage.height": "size",
    "parameters.textToImage.steps": "steps",
    "parameters.textToImage.seed": "seed",
    "parameters.textToImage.guidanceScale": "guidance_scale",
    "parameters.textToImage.negativePrompt": "negative_prompt",
    "parameters.textToImage.format": "output_format",
    "fileIds": "image",
}


def _status(error: PromptSvcError) -> int:
    """The SDK sends again what was answered with 409, and sees nothing special in 422: both are a wrong request here."""
    if isinstance(error, Denied):
        return 403
    return 400 if error.status in (409, 422) else error.status


def _object(message: str, status: int, param: str | None, code: str | None) -> dict[str, Any]:
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"message": message, "type": kind, "param": param, "code": code}


def _reply(status: int, error: dict[str, Any], headers: dict[str, str]) -> Response:
    return Response(orjson.dumps({"error": error}), status, headers, media_type="application/json")
