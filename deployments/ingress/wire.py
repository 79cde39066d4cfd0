"""Our objects in the original service's words (contract 1backend §1.1): exact key sets, its zero time, its chunks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from deployments.ingress.threads import ThreadEvent
from pipeline.delta import DeltaKind, FinishReason
from pipeline.prompt import Prompt
from pipeline.store.events import Event
from pipeline.store.messages import Message
from pipeline.store.threads import Thread

#: "Never", as a Go server writes it (contract §0.2).
ZERO_TIME = "0001-01-01T00:00:00Z"


def timestamp(microseconds: int) -> str:
    """RFC 3339 in UTC, with microseconds."""
    if microseconds == 0:
        return ZERO_TIME
    moment = datetime.fromtimestamp(microseconds // 1_000_000, UTC).replace(microsecond=microseconds % 1_000_000)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def prompt_object(prompt: Prompt, *, with_text: bool = True) -> dict[str, Any]:
    """The Prompt object. Without its text (an admin looking at somebody else's) nothing the user wrote is in it."""
    result: dict[str, Any] = {
        "id": prompt.id,
        "prompt": prompt.prompt if with_text else "",
        "threadId": prompt.thread_id,
        "userId": prompt.user_id,
        "sync": prompt.sync,
        "requestMessageId": prompt.id,
        "responseMessageId": prompt.message_id,
        "createdAt": timestamp(prompt.created_us),
        "updatedAt": timestamp(prompt.updated_us),
        "lastRun": timestamp(prompt.last_run_us),
        "status": prompt.status.value,
        "modelId": prompt.model_id,
        "maxRetries": prompt.max_retries,
    }
    if prompt.type:
        result["type"] = prompt.type
    if prompt.runs:
        result["runCount"] = prompt.runs
    if prompt.error:
        result["error"] = prompt.error
    if with_text and prompt.parameters is not None:
        result["parameters"] = prompt.parameters
    if with_text and prompt.engine_parameters is not None:
        result["engineParameters"] = prompt.engine_parameters
    return result


def searched_object(prompt: Prompt, *, with_text: bool = True) -> dict[str, Any]:
    """What filters and orders of a listing see: the Prompt object, and the ids of its files, which clients are shown beside it
    and not in it (contract §0.8)."""
    result = prompt_object(prompt, with_text=with_text)
    if with_text and prompt.file_ids:
        result["fileIds"] = list(prompt.file_ids)
    return result


def message_object(message: Message) -> dict[str, Any]:
    """The chat Message object; an answer has no userId."""
    result: dict[str, Any] = {
        "id": message.id,
        "threadId": message.thread_id,
        "text": message.text,
        "createdAt": timestamp(message.created_us),
        "updatedAt": timestamp(message.updated_us or message.created_us),
    }
    if message.user_id:
        result["userId"] = message.user_id
    if message.file_ids:
        result["fileIds"] = list(message.file_ids)
    if message.meta:
        result["meta"] = dict(message.meta)
    return result


def thread_object(thread: Thread) -> dict[str, Any]:
    """The chat Thread object; its only member is its owner."""
    result: dict[str, Any] = {
        "id": thread.id,
        "createdAt": timestamp(thread.created_us),
        "updatedAt": timestamp(thread.updated_us),
        "userIds": [thread.user_id],
    }
    if thread.topic_ids:
        result["topicIds"] = list(thread.topic_ids)
    if thread.title:
        result["title"] = thread.title
    return result


def user_event(event: Event) -> dict[str, Any]:
    """An event of a user's, as the original's firehose-svc frames those of every service (contract §1.6)."""
    return {"name": event.name, "data": event.data}


def chunk(event: ThreadEvent) -> dict[str, Any] | None:
    """The stream chunk of an event: ``progress`` and ``done`` exactly as documented, with ``promptId`` beside and, of
    pictures, ``step`` of ``steps``, ``preview`` and ``fileIds``; None for entries clients have no use for. Types beyond the
    document: ``error``, ``canceled``, ``restart``."""
    delta = event.entry.delta
    result: dict[str, Any] = {"promptId": event.prompt_id}
    if delta.kind is DeltaKind.CONTENT:
        if not delta.text:
            return None
        return {"text": delta.text, "type": "progress", **result}
    if delta.kind is DeltaKind.STEP:
        # The text is for clients that append whatever comes.
        preview = {"preview": f"data:image/webp;base64,{delta.preview}"} if delta.preview else {}
        return {"text": "", "type": "progress", **result, "step": delta.step, "steps": delta.steps, **preview}
    if delta.kind is DeltaKind.RESTART:
        return {"type": "restart", **result}
    if delta.kind is not DeltaKind.END:
        return None
    if delta.finish_reason is FinishReason.CANCELED:
        return {"type": "canceled", **result}
    if delta.finish_reason is FinishReason.ERROR:
        return {"text": delta.error or "", "type": "error", **result}
    text = {"text": delta.text} if delta.text else {}
    files = {"fileIds": list(event.entry.file_ids)} if event.entry.file_ids else {}
    return {**text, "messageId": event.entry.message_id, "type": "done", **result, **files}
