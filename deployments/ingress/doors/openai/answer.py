"""What the log of a prompt amounts to: one whole answer, for replies that are no stream."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.delta import TEXT_KINDS, Delta, DeltaKind, FinishReason, TokenLogprob
from pipeline.store.logs import LogEntry


@dataclass(slots=True)
class ToolCall:
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(slots=True)
class Answer:
    """An answer, as far as it is logged."""

    content: str = ""
    thinking: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    #: None while it is not finished.
    finish_reason: FinishReason | None = None
    error: str = ""
    message_id: str = ""

    @classmethod
    def of(cls, entries: Iterable[LogEntry]) -> Answer:
        answer = cls()
        for entry in entries:
            if entry.delta.kind is DeltaKind.RESTART:
                answer = cls()
            else:
                answer._add(entry.delta)
            answer.message_id = entry.message_id
        return answer

    def _add(self, delta: Delta) -> None:
        if delta.kind in TEXT_KINDS:
            self.content += delta.text
        elif delta.kind is DeltaKind.THINKING:
            self.thinking += delta.text
        elif delta.kind is DeltaKind.TOOL and delta.tool is not None:
            while len(self.calls) <= delta.tool.index:
                self.calls.append(ToolCall())
            call = self.calls[delta.tool.index]
            call.id, call.name = call.id or delta.tool.id, call.name or delta.tool.name
            call.arguments += delta.text
        self.logprobs += delta.logprobs
        if delta.kind is DeltaKind.END:
            self.finish_reason, self.error = delta.finish_reason, delta.error or ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Tokens of all answers to a request."""

    prompt: int = 0
    completion: int = 0
    reasoning: int = 0
