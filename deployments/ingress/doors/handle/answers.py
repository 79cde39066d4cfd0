"""What calls through a handle are answered with, as plain JSON values."""

from __future__ import annotations

import logging
from typing import Any

from redis.exceptions import RedisError

from pipeline.errors import InvalidField, PromptSvcError, ServerError, StoreUnavailable, describe
from pipeline.store.connection import means_unavailable
from pipeline.store.logs import LogEntry

logger = logging.getLogger("ray.serve")


def entry_object(entry: LogEntry) -> dict[str, Any]:
    """One entry of a prompt's log; what is empty is left out."""
    delta = entry.delta
    result: dict[str, Any] = {"number": entry.number, "kind": delta.kind.value}
    if delta.choice:
        result["choice"] = delta.choice
    if delta.text:
        result["text"] = delta.text
    if delta.steps:
        result |= {"step": delta.step, "steps": delta.steps}
    if delta.preview:
        result["preview"] = delta.preview
    if delta.finish_reason is not None:
        result["finishReason"] = delta.finish_reason.value
    if delta.error:
        result["error"] = delta.error
    if entry.message_id:
        result["messageId"] = entry.message_id
    if entry.file_ids:
        result["fileIds"] = list(entry.file_ids)
    return result


def error_answer(method: str, error: Exception) -> dict[str, Any]:
    """``{"error": {...}}``. What was not raised on purpose is logged, without its message: that may hold a prompt."""
    if isinstance(error, RedisError) and means_unavailable(error):
        error = StoreUnavailable()
    elif not isinstance(error, PromptSvcError):
        logger.error("handle call %s failed: %s", method, describe(error))
        error = ServerError()
    result: dict[str, Any] = {"status": error.status, "message": error.message}
    if error.retry_after_s is not None:
        result["retryAfterS"] = error.retry_after_s
    if isinstance(error, InvalidField):
        result |= {"field": error.field, "value": error.shown, "allowed": error.allowed}
    return {"error": result}
