"""What is wrong with an expression, in words that quote nothing of it: it holds a prompt."""

from __future__ import annotations

from pipeline.errors import ClientError
from pipeline.json_text import is_storable


class WrongExpression(ClientError):
    """The expression is not one that this service runs."""


class WrongSyntax(WrongExpression):
    """The expression cannot be read."""


def check_characters(text: str, where: str) -> str:
    """``text``, if every character of it can be stored. Raises WrongSyntax."""
    if not is_storable(text):
        raise WrongSyntax(f"{where}: NUL characters and lone surrogates are not allowed")
    return text
