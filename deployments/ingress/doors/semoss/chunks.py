"""Log entries as the chunks of ``pixelJobStreaming`` (contract B.4), and the words for a job's state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any

from pipeline.delta import Delta, DeltaKind, FinishReason
from pipeline.states import Status

#: How a chunk of a job that failed, or was cancelled, ends: a client that waits for a reason must get one.
_REASONS = {FinishReason.CANCELED: "canceled", FinishReason.ERROR: "error"}


class JobStatus(StrEnum):
    """The states that a client may see; those of the original that nothing ever set are left out."""

    CREATED = "Created"
    IN_PROGRESS = "InProgress"
    #: It has ended, also where the model failed: then the result says so.
    PROGRESS_COMPLETE = "ProgressComplete"
    CANCELED = "Canceled"
    ERROR = "Error"
    UNKNOWN_JOB = "UnknownJob"


def job_status(status: Status, *, is_read_out: bool) -> JobStatus:
    """The state of a job whose prompt is in ``status``. An end is told once everything before it has been read."""
    if status.is_terminal and is_read_out:
        return JobStatus.CANCELED if status is Status.CANCELED else JobStatus.PROGRESS_COMPLETE
    return JobStatus.CREATED if status is Status.SCHEDULED else JobStatus.IN_PROGRESS


def chunks(deltas: Iterable[Delta], *, usage: Mapping[str, int] | None) -> list[dict[str, Any]]:
    """The chunks of some deltas. ``usage`` is told right before the finish, which is the last of all."""
    return [chunk for delta in deltas for chunk in _chunks(delta, usage)]


def _chunks(delta: Delta, usage: Mapping[str, int] | None) -> Iterator[dict[str, Any]]:
    match delta.kind:
        case DeltaKind.CONTENT if delta.text:
            yield _chunk("content", {"content": delta.text})
        case DeltaKind.THINKING if delta.text:
            yield _chunk("thinking", {"thinking": delta.text})
        case DeltaKind.TOOL:
            yield from _tool_chunks(delta)
        case DeltaKind.RESTART:
            # No client knows it; those that are not told would show the beginning twice without a word.
            yield _chunk("content", {"event": "restart"})
        case DeltaKind.END:
            if delta.text:
                yield _chunk("content", {"content": delta.text})
            if usage:
                yield _chunk("usage", dict(usage))
            yield finish_chunk(delta.finish_reason or FinishReason.STOP)


def finish_chunk(reason: FinishReason) -> dict[str, Any]:
    """The last chunk, of its own, under ``tool`` if tools were called."""
    kind = "tool" if reason is FinishReason.TOOL_CALLS else "content"
    return _chunk(kind, {"finish_reason": _REASONS.get(reason, reason.value)})


def _tool_chunks(delta: Delta) -> Iterator[dict[str, Any]]:
    """A piece of a tool call, one field at a time."""
    if delta.tool is None:
        return
    index = {"index": delta.tool.index}
    if delta.tool.id:
        yield _chunk("tool", {**index, "id": delta.tool.id})
        yield _chunk("tool", {**index, "type": "function"})
    if delta.tool.name:
        yield _chunk("tool", {**index, "function": {"name": delta.tool.name}})
    if delta.text:
        yield _chunk("tool", {**index, "function": {"arguments": delta.text}})


def _chunk(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"stream_type": kind, "data": data}


def usage_of(meta: Mapping[str, Any] | None) -> dict[str, int] | None:
    """The tokens that an answer's message counts."""
    if not meta or "promptTokens" not in meta:
        return None
    usage = {"input_tokens": int(meta["promptTokens"]), "output_tokens": int(meta["completionTokens"])}
    if "reasoningTokens" in meta:
        usage["reasoning_tokens"] = int(meta["reasoningTokens"])
    return usage


def text_of(deltas: Iterable[Delta]) -> str:
    """The answer's words so far, as ``partial`` shows them."""
    parts: list[str] = []
    for delta in deltas:
        if delta.kind is DeltaKind.RESTART:
            parts.clear()
        elif delta.kind in (DeltaKind.CONTENT, DeltaKind.END):
            parts.append(delta.text)
    return "".join(parts)


def calls_of(deltas: Iterable[Delta]) -> list[dict[str, str]]:
    """The calls of tools in an answer, as its result lists them."""
    calls: dict[int, dict[str, str]] = {}
    for delta in deltas:
        if delta.kind is DeltaKind.RESTART:
            calls.clear()
        elif delta.tool is not None:
            call = calls.setdefault(delta.tool.index, {"id": "", "type": "function", "name": "", "arguments": ""})
            call["id"] = call["id"] or delta.tool.id
            call["name"] = call["name"] or delta.tool.name
            call["arguments"] += delta.text
    return [calls[index] for index in sorted(calls)]
