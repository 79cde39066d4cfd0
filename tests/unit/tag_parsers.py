"""Parsers for tests of what is done with parsers: thoughts in ``[]``, calls as ``<name arguments>``, the rest is text."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.delta import Delta, DeltaKind, ToolPart
from pipeline.engine import TextRequest


class TagParser:
    """Gives everything out as soon as it may. Ids of calls are random in real parsers: here each parser counts its own."""

    made = 0

    def __init__(self, request: TextRequest) -> None:
        TagParser.made += 1
        self._own = f"parser-{TagParser.made}"
        self.sampling = request.sampling
        self._state = "text"
        self._name = ""
        self._calls = -1
        self.ids: list[int] = []

    def feed(self, text: str, token_ids: Sequence[int], *, finished: bool) -> list[Delta]:
        self.ids += token_ids
        pieces: list[Delta] = []
        for character in text:
            match self._state, character:
                case "text", "[":
                    self._state = "thought"
                case "thought", "]":
                    self._state = "text"
                case "text", "<":
                    self._state, self._name = "name", ""
                    self._calls += 1
                case "name", " ":
                    self._state = "arguments"
                    part = ToolPart(index=self._calls, id=f"{self._own}-{self._calls}", name=self._name)
                    pieces.append(Delta(kind=DeltaKind.TOOL, tool=part))
                case "name", _:
                    self._name += character
                case "arguments", ">":
                    self._state = "text"
                case "arguments", _:
                    pieces.append(Delta(kind=DeltaKind.TOOL, text=character, tool=ToolPart(index=self._calls)))
                case "thought", _:
                    pieces.append(Delta(kind=DeltaKind.THINKING, text=character))
                case _:
                    pieces.append(Delta(text=character))
        return pieces


class HesitantParser(TagParser):
    """Holds back the last character of every portion until it gets more."""

    def __init__(self, request: TextRequest) -> None:
        super().__init__(request)
        self._held = ""

    def feed(self, text: str, token_ids: Sequence[int], *, finished: bool) -> list[Delta]:
        text = self._held + text
        text, self._held = (text, "") if finished else (text[:-1], text[-1:])
        return super().feed(text, token_ids, finished=finished)


class FickleParser(TagParser):
    """Says something else each time it is made: what one said, another does not go on from."""

    def feed(self, text: str, token_ids: Sequence[int], *, finished: bool) -> list[Delta]:
        return super().feed(text.replace("e", self._own[-1]), token_ids, finished=finished)


class TagParsers:
    def __init__(self, kind: type[TagParser] = TagParser) -> None:
        self._kind = kind

    def parser(self, request: TextRequest) -> TagParser:
        return self._kind(request)
