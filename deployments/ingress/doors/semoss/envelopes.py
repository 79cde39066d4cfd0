"""The pixel envelope: what ``runPixel`` and ``result`` answer with (contract B.6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pipeline.store.messages import Message


class OperationType(StrEnum):
    """What kind of output it is."""

    OPERATION = "OPERATION"
    CODE_EXECUTION = "CODE_EXECUTION"
    VECTOR = "VECTOR"
    ERROR = "ERROR"
    INVALID_SYNTAX = "INVALID_SYNTAX"


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What came of one statement."""

    output: Any
    types: tuple[OperationType, ...] = (OperationType.OPERATION,)
    is_meta: bool = False

    @property
    def failed(self) -> bool:
        return OperationType.ERROR in self.types

    @classmethod
    def error(cls, message: str, *also: OperationType) -> Outcome:
        """A failure is a 200, too. Clients raise what stands in ``output``."""
        return cls(output=message, types=(OperationType.ERROR, *also))

    @classmethod
    def answer(
        cls, message: Message, room_id: str, *, by_code: bool, calls: Sequence[Mapping[str, str]] = ()
    ) -> Outcome:
        """A model's answer, or the calls of tools it asks for; Python's is the value of its last line."""
        meta = message.meta or {}
        output = {
            "response": [*calls] if calls else message.text,
            "messageId": message.id,
            "messageType": "TOOL" if calls else "CHAT",
            "roomId": room_id,
            "numberOfTokensInPrompt": meta.get("promptTokens"),
            "numberOfTokensInResponse": meta.get("completionTokens"),
        }
        if by_code:
            return cls(output=[{"output": output}], types=(OperationType.CODE_EXECUTION,))
        return cls(output=output)

    def to_record(self) -> dict[str, Any]:
        return {"output": self.output, "types": [*self.types], "is_meta": self.is_meta}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Outcome:
        types = tuple(OperationType(name) for name in record["types"])
        return cls(output=record["output"], types=types, is_meta=record["is_meta"])


def envelope(
    outcome: Outcome, *, insight_id: str, expression: str, time_ms: int, session_seconds: int
) -> dict[str, Any]:
    """The reply for one statement."""
    return {
        "insightID": insight_id,
        "sessionTimeRemaining": str(session_seconds),
        "pixelReturn": [
            {
                "pixelId": "0",
                "pixelExpression": expression,
                "isMeta": outcome.is_meta,
                "timeToRun": time_ms,
                "output": outcome.output,
                "operationType": [*outcome.types],
            }
        ],
    }
