"""Which of the few things this door does an expression asks for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TypeAlias

from deployments.ingress.doors.semoss.errors import WrongExpression
from deployments.ingress.doors.semoss.pixel import Pixel, parse_pixel
from deployments.ingress.doors.semoss.python_code import looks_like_python
from deployments.ingress.doors.semoss.questions import Question, question_of_code, question_of_pixel

#: Longer expressions are read in a thread, characters.
INLINE_CHARACTERS = 16 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Asking:
    """A model is asked."""

    question: Question
    #: By Python, whose answer comes in another envelope.
    by_code: bool


Statement: TypeAlias = Asking | Pixel


async def read_statement(expression: str) -> Statement:
    """What an expression asks for: a question to a model, or a reactor by its name.

    Raises:
        WrongExpression, InvalidField: it cannot be read, or asks in a way that is not understood.
    """
    if len(expression) > INLINE_CHARACTERS:
        return await asyncio.to_thread(_read, expression)
    return _read(expression)


def _read(expression: str) -> Statement:
    if looks_like_python(expression):
        return Asking(question=question_of_code(expression.removesuffix(";")), by_code=True)
    pixel = parse_pixel(expression)
    if pixel.name == "LLM":
        return Asking(question=question_of_pixel(pixel), by_code=False)
    if pixel.name == "Py":
        return Asking(question=question_of_code(_code(pixel)), by_code=True)
    return pixel


def _code(pixel: Pixel) -> str:
    """The snippet in ``Py("…")`` or ``Py(code="…")``."""
    given = [*pixel.positional, *(value for name, value in pixel.named.items() if name == "code")]
    if len(given) != 1 or len(pixel.positional) + len(pixel.named) != 1 or not isinstance(given[0], str):
        raise WrongExpression("Py: allowed is one argument, the code")
    return given[0]
