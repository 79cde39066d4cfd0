"""What an engine yields and the prompt log keeps: deltas. Every public API's stream is a pure translation of these."""

from __future__ import annotations

from dataclasses import dataclass, replace
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


#: Kinds whose text is the answer.
TEXT_KINDS = frozenset({DeltaKind.CONTENT, DeltaKind.END})


class FinishReason(StrEnum):
    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CANCELED = "canceled"
    ERROR = "error"


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolPart:
    """Which call of a tool a delta belongs to."""

    #: Position among the answer's calls, 0 is the first.
    index: int
    #: Id of the call and name of the tool, on the first delta of a call; empty on the others.
    id: str = ""
    name: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenLogprob:
    """How likely a token was, natural logarithm."""

    token: str
    logprob: float
    #: The likeliest tokens at this place with theirs, likeliest first.
    top: tuple[tuple[str, float], ...] = ()


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
    #: Only on TOOL: the call that ``text`` is a piece of the arguments of (JSON).
    tool: ToolPart | None = None
    #: Of the ids that are text, where they were asked for.
    logprobs: tuple[TokenLogprob, ...] = ()

    def can_take(self, other: Delta) -> bool:
        """Whether ``merged_with`` says of both together what they say one after the other, or all that counts of it."""
        if self.kind is not other.kind or self.choice != other.choice:
            return False
        if self.kind is DeltaKind.TOOL and self.tool and other.tool:
            return self.tool.index == other.tool.index and not other.tool.id
        return self.kind in (DeltaKind.CONTENT, DeltaKind.THINKING, DeltaKind.STEP)

    def merged_with(self, other: Delta) -> Delta:
        """Both as one: text and ids are joined; of steps the latest counts, with the latest preview there is."""
        if other.kind is DeltaKind.STEP:
            return replace(other, preview=other.preview or self.preview)
        return replace(
            self,
            text=self.text + other.text,
            token_ids=self.token_ids + other.token_ids,
            logprobs=self.logprobs + other.logprobs,
        )
