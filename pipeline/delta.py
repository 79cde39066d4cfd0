"""What an engine yields and the prompt log keeps: deltas. Every public API's stream is a pure translation of these."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DeltaKind(StrEnum):
    CONTENT = "content"
    THINKING = "thinking"
    TOOL = "tool"
    IMAGE = "image"
    STEP = "step"
    USAGE = "usage"
    #: Everything before this entry is void; the answer starts again.
    RESTART = "restart"
    #: The last entry of a log. Its text, if any, belongs to the answer.
    END = "end"


class FinishReason(StrEnum):
    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CANCELED = "canceled"
    ERROR = "error"


@dataclass(frozen=True, kw_only=True, slots=True)
class Delta:
    """One step of an answer."""

    kind: DeltaKind = DeltaKind.CONTENT
    #: Index of the choice (``n`` > 1) this belongs to.
    choice: int = 0
    #: Text that readers append. Always whole characters.
    text: str = ""
    #: Only on STEP: so many of so many steps are done, and at times a small WebP of what there is to see, base64. Readers may
    #: ignore both; the log keeps them until the prompt has ended.
    step: int = 0
    steps: int = 0
    preview: str = ""
    #: Ids generated since the delta before, in order. They may decode to more than ``text`` (a character or a stop
    #: string still incomplete), never to less.
    token_ids: tuple[int, ...] = ()
    #: Only on END.
    finish_reason: FinishReason | None = None
    #: Only on END: what went wrong, when the reason is ERROR.
    error: str | None = None
