"""The objects of chat and text completions, whole and in chunks (contract §4.3, §4.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deployments.ingress.doors.openai.answer import Answer, Usage
from pipeline.delta import TEXT_KINDS, Delta, DeltaKind, FinishReason, TokenLogprob

#: What a finish reason of ours is called. The others are errors.
_REASONS = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.TOOL_CALLS: "tool_calls",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """What every object of one reply begins with."""

    id: str
    #: ``chat.completion`` or ``text_completion``.
    object: str
    #: Unix seconds.
    created: int
    model: str
    metadata: Mapping[str, str] | None = None
    service_tier: str | None = None

    def fields(self, *, of_chunk: bool = False) -> dict[str, Any]:
        name = f"{self.object}.chunk" if of_chunk and self.object == "chat.completion" else self.object
        found: dict[str, Any] = {"id": self.id, "object": name, "created": self.created, "model": self.model}
        if self.service_tier is not None:
            found["service_tier"] = "default" if self.service_tier == "auto" else self.service_tier
        return {**found, "system_fingerprint": None}


def completion(head: Head, answers: Sequence[Answer], usage: Usage, *, prompts: Sequence[str] = ()) -> dict[str, Any]:
    """A whole reply. ``prompts``: what each text begins with, where that was asked for."""
    if head.object == "chat.completion":
        choices = [_chat_choice(index, answer) for index, answer in enumerate(answers)]
    else:
        choices = [
            _text_choice(index, answer, prompts[index] if prompts else "") for index, answer in enumerate(answers)
        ]
    metadata = {} if head.metadata is None else {"metadata": dict(head.metadata)}
    return {**head.fields(), "choices": choices, "usage": usage_object(usage), **metadata}


def usage_object(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }


class Chunks:
    """The chunks of one streamed reply."""

    def __init__(self, head: Head, *, include_usage: bool, prompts: Sequence[str] = ()) -> None:
        self._fields = head.fields(of_chunk=True)
        self._is_chat = head.object == "chat.completion"
        self._usage = {"usage": None} if include_usage else {}
        self._prompts = prompts
        self._begun: set[int] = set()
        self._offsets: dict[int, int] = {}

    def has_begun(self, index: int) -> bool:
        """Whether the client has anything of this choice."""
        return index in self._begun

    def of(self, index: int, delta: Delta) -> list[dict[str, Any]]:
        """The chunks of a delta; of an END the last chunk of its choice. Those of an END that is an error are not known here."""
        chunks = []
        piece = self._piece(index, delta)
        if piece is not None or delta.kind is DeltaKind.END:
            chunks += self._beginning(index)
        if piece is not None:
            chunks.append(piece)
        if delta.kind is DeltaKind.END:
            assert delta.finish_reason is not None
            chunks.append(self._chunk(index, {} if self._is_chat else "", reason=_REASONS[delta.finish_reason]))
        return chunks

    def usage(self, usage: Usage) -> dict[str, Any]:
        return {**self._fields, "choices": [], "usage": usage_object(usage)}

    def _beginning(self, index: int) -> list[dict[str, Any]]:
        if index in self._begun:
            return []
        self._begun.add(index)
        if self._is_chat:
            return [self._chunk(index, {"role": "assistant", "content": ""})]
        return [self._chunk(index, self._prompts[index])] if self._prompts else []

    def _piece(self, index: int, delta: Delta) -> dict[str, Any] | None:
        if not self._is_chat:
            if delta.kind not in TEXT_KINDS or not (delta.text or delta.logprobs):
                return None
            offset = self._offsets.get(index, 0)
            self._offsets[index] = offset + len(delta.text)
            logprobs = _text_logprobs(delta.logprobs, offset) if delta.logprobs else None
            return self._chunk(index, delta.text, logprobs=logprobs)
        logprobs = _chat_logprobs(delta.logprobs) if delta.logprobs else None
        if delta.kind is DeltaKind.THINKING:
            return self._chunk(index, {"reasoning_content": delta.text}, logprobs=logprobs)
        if delta.kind is DeltaKind.TOOL and delta.tool is not None:
            return self._chunk(index, {"tool_calls": [_call_piece(delta)]}, logprobs=logprobs)
        if delta.kind in TEXT_KINDS and (delta.text or logprobs):
            return self._chunk(index, {"content": delta.text}, logprobs=logprobs)
        return None

    def _chunk(
        self, index: int, said: Any, *, logprobs: dict[str, Any] | None = None, reason: str | None = None
    ) -> dict[str, Any]:
        choice = {
            "index": index,
            "delta" if self._is_chat else "text": said,
            "logprobs": logprobs,
            "finish_reason": reason,
        }
        return {**self._fields, "choices": [choice], **self._usage}


def _call_piece(delta: Delta) -> dict[str, Any]:
    tool = delta.tool
    assert tool is not None
    if not tool.id:
        return {"index": tool.index, "function": {"arguments": delta.text}}
    function = {"name": tool.name, "arguments": delta.text}
    return {"index": tool.index, "id": tool.id, "type": "function", "function": function}


def _chat_choice(index: int, answer: Answer) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.content, "refusal": None}
    if answer.thinking:
        message["reasoning_content"] = answer.thinking
    if answer.calls:
        message["content"] = answer.content or None
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in answer.calls
        ]
    return {
        "index": index,
        "message": message,
        "logprobs": _chat_logprobs(answer.logprobs) if answer.logprobs else None,
        "finish_reason": _reason(answer),
    }


def _text_choice(index: int, answer: Answer, prompt: str) -> dict[str, Any]:
    return {
        "index": index,
        "text": prompt + answer.content,
        "logprobs": _text_logprobs(answer.logprobs, len(prompt)) if answer.logprobs else None,
        "finish_reason": _reason(answer),
    }


def _reason(answer: Answer) -> str:
    assert answer.finish_reason is not None
    return _REASONS[answer.finish_reason]


def _chat_logprobs(found: Sequence[TokenLogprob]) -> dict[str, Any]:
    def row(token: str, logprob: float) -> dict[str, Any]:
        return {"token": token, "logprob": logprob, "bytes": list(token.encode())}

    content = [
        {**row(one.token, one.logprob), "top_logprobs": [row(token, logprob) for token, logprob in one.top]}
        for one in found
    ]
    return {"content": content, "refusal": None}


def _text_logprobs(found: Sequence[TokenLogprob], offset: int) -> dict[str, Any]:
    offsets = []
    for one in found:
        offsets.append(offset)
        offset += len(one.token)
    return {
        "tokens": [one.token for one in found],
        "token_logprobs": [one.logprob for one in found],
        "top_logprobs": [dict(one.top) for one in found],
        "text_offset": offsets,
    }
