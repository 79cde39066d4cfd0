"""What the log of a prompt amounts to: one whole answer, for replies that are no stream."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.answer import Said
from pipeline.delta import DeltaKind, FinishReason, TokenLogprob
from pipeline.store.logs import LogEntry


@dataclass(slots=True)
class Answer(Said):
    """An answer, as far as it is logged."""

    logprobs: list[TokenLogprob] = field(default_factory=list)
    #: None while it is not finished.
    finish_reason: FinishReason | None = None
    error: str = ""
    message_id: str = ""

    @classmethod
    def of(cls, entries: Iterable[LogEntry]) -> Answer:
        answer = cls()
        for entry in entries:
            delta = entry.delta
            if delta.kind is DeltaKind.RESTART:
                answer = cls()
                continue
            answer.add([delta])
            answer.logprobs += delta.logprobs
            if delta.kind is DeltaKind.END:
                answer.finish_reason, answer.error = delta.finish_reason, delta.error or ""
                answer.message_id = entry.message_id
        return answer


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Tokens of all answers to a request."""

    prompt: int = 0
    completion: int = 0
    reasoning: int = 0
