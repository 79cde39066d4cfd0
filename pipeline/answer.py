"""What the deltas of an answer amount to: thoughts, text, calls of tools."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.delta import TEXT_KINDS, Delta, DeltaKind, ToolPart


@dataclass(slots=True)
class ToolCall:
    """A call of a tool as far as it is known."""

    id: str = ""
    name: str = ""
    #: JSON text, or its beginning.
    arguments: str = ""


@dataclass(slots=True)
class Said:
    """What an answer amounts to so far."""

    thinking: str = ""
    content: str = ""
    calls: list[ToolCall] = field(default_factory=list)

    def add(self, deltas: Iterable[Delta]) -> None:
        for delta in deltas:
            if delta.kind is DeltaKind.THINKING:
                self.thinking += delta.text
            elif delta.kind in TEXT_KINDS:
                self.content += delta.text
            elif delta.kind is DeltaKind.TOOL and delta.tool is not None:
                while len(self.calls) <= delta.tool.index:
                    self.calls.append(ToolCall())
                call = self.calls[delta.tool.index]
                call.id = call.id or delta.tool.id
                call.name = call.name or delta.tool.name
                call.arguments += delta.text

    def is_beginning_of(self, other: Said) -> bool:
        return (
            other.thinking.startswith(self.thinking)
            and other.content.startswith(self.content)
            and len(self.calls) <= len(other.calls)
            and all(
                theirs.name == ours.name and theirs.arguments.startswith(ours.arguments)
                for ours, theirs in zip(self.calls, other.calls, strict=False)
            )
        )

    def behind(self, written: Said) -> list[Delta]:
        """What this says beyond ``written``, which is a beginning of it."""
        deltas = []
        if thinking := self.thinking[len(written.thinking) :]:
            deltas.append(Delta(kind=DeltaKind.THINKING, text=thinking))
        if content := self.content[len(written.content) :]:
            deltas.append(Delta(text=content))
        for index, call in enumerate(self.calls):
            known = written.calls[index] if index < len(written.calls) else None
            arguments = call.arguments[len(known.arguments) :] if known else call.arguments
            part = ToolPart(index=index) if known else ToolPart(index=index, id=call.id, name=call.name)
            if arguments or not known:
                deltas.append(Delta(kind=DeltaKind.TOOL, text=arguments, tool=part))
        return deltas
