"""Reads pixel statements: ``Name(argument, name=value, …);`` and ``META | true``. Nothing is ever run (contract B.3)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deployments.ingress.doors.semoss.errors import WrongSyntax, check_characters

#: Nesting of lists and objects in an argument.
MOST_DEPTH = 64
OPENING, CLOSING = "<encode>", "</encode>"

_SPACE = re.compile(r"\s*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_NUMBER = re.compile(r"-?\d{1,20}(\.\d{1,40})?([eE][+-]?\d{1,3})?(?![\w.])")
_SINGLE_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_META = re.compile(r"\s*META\s*\|\s*true\s*;?\s*\Z")
#: JSON's words and, for the lists that the Python SDK prints as Python does, Python's.
_WORDS = {"true": True, "false": False, "null": None, "True": True, "False": False, "None": None}


@dataclass(frozen=True, kw_only=True, slots=True)
class Pixel:
    """One statement: a reactor's name and its arguments. ``META | true`` is the reactor ``META``."""

    name: str
    positional: tuple[Any, ...] = ()
    named: Mapping[str, Any] = field(default_factory=dict)


def parse_pixel(text: str) -> Pixel:
    """The one statement of an expression.

    Text between ``<encode>`` and ``</encode>`` stands for itself: quotes, semicolons and line ends in it mean nothing.

    Raises:
        WrongSyntax: it is none, or there are several; says where, in characters.
    """
    if _META.match(text):
        return Pixel(name="META")
    return _Reader(text).statement()


class _Reader:
    """A cursor in the text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def statement(self) -> Pixel:
        name = self._name()
        self._expect("(")
        positional: list[Any] = []
        named: dict[str, Any] = {}
        while not self._take(")"):
            if positional or named:
                self._expect(",")
            key = self._argument_name()
            value = self._value(0)
            if key is None:
                positional.append(value)
            elif key in named:
                raise self._wrong(f"the argument {key} a second time")
            else:
                named[key] = value
        self._take(";")
        if self._peek():
            raise self._wrong("more than one statement")
        return Pixel(name=name, positional=tuple(positional), named=named)

    def _name(self) -> str:
        self._skip()
        match = _NAME.match(self._text, self._at)
        if match is None:
            raise self._wrong("no name of a reactor, such as LLM")
        self._at = match.end()
        return match[0]

    def _argument_name(self) -> str | None:
        """The name in front of ``=``, if there is one."""
        self._skip()
        match = _NAME.match(self._text, self._at)
        if match is None:
            return None
        behind = _SPACE.match(self._text, match.end())
        assert behind is not None
        if self._text[behind.end() : behind.end() + 1] != "=":
            return None
        self._at = behind.end() + 1
        return match[0]

    def _value(self, depth: int) -> Any:
        if depth > MOST_DEPTH:
            raise self._wrong(f"nested deeper than {MOST_DEPTH} levels")
        match self._peek():
            case '"' | "'" as quote:
                return self._string(quote)
            case "[":
                return self._list(depth)
            case "{":
                return self._object(depth)
            case _:
                return self._scalar()

    def _list(self, depth: int) -> list[Any]:
        self._expect("[")
        items: list[Any] = []
        while not self._take("]"):
            if items:
                self._expect(",")
            items.append(self._value(depth + 1))
        return items

    def _object(self, depth: int) -> dict[str, Any]:
        self._expect("{")
        items: dict[str, Any] = {}
        while not self._take("}"):
            if items:
                self._expect(",")
            quote = self._peek()
            if quote not in ('"', "'"):
                raise self._wrong("no string where an object needs a key")
            key = self._string(quote)
            self._expect(":")
            items[key] = self._value(depth + 1)
        return items

    def _scalar(self) -> Any:
        number = _NUMBER.match(self._text, self._at)
        if number is not None:
            self._at = number.end()
            return float(number[0]) if number[1] or number[2] else int(number[0])
        word = _NAME.match(self._text, self._at)
        if word is None or word[0] not in _WORDS:
            raise self._wrong("no value: allowed are strings, numbers, lists, objects, true, false and null")
        self._at = word.end()
        return _WORDS[word[0]]

    def _string(self, quote: str) -> str:
        if self._text.startswith(OPENING, self._at + 1):
            begin = self._at + 1 + len(OPENING)
            end = self._text.find(CLOSING + quote, begin)
            if end < 0:
                raise self._wrong(f"{OPENING} without {CLOSING}")
            self._at = end + len(CLOSING) + 1
            return check_characters(self._text[begin:end], "expression")
        if quote == "'":
            match = _SINGLE_QUOTED.match(self._text, self._at)
            if match is None:
                raise self._wrong("a string without an end")
            self._at = match.end()
            return check_characters(_ESCAPED.sub(r"\1", match[1]), "expression")
        try:
            value, self._at = json.decoder.scanstring(self._text, self._at + 1, False)
        except json.JSONDecodeError:
            # ``from None``: the error object carries the whole expression, which must not reach a log.
            raise self._wrong("a string without an end, or with a wrong escape") from None
        return check_characters(value, "expression")

    def _skip(self) -> None:
        match = _SPACE.match(self._text, self._at)
        assert match is not None
        self._at = match.end()

    def _peek(self) -> str:
        self._skip()
        return self._text[self._at : self._at + 1]

    def _take(self, character: str) -> bool:
        if self._peek() != character:
            return False
        self._at += 1
        return True

    def _expect(self, character: str) -> None:
        if not self._take(character):
            raise self._wrong(f"no {character!r}")

    def _wrong(self, what: str) -> WrongSyntax:
        return WrongSyntax(f"expression: at character {self._at + 1} there is {what}")
