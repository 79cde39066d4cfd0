r"""Templates that a client puts around a prompt.

A template of **one variable** has ``{prompt}`` in it; every other brace is text. That is what the document shows, and templates
with JSON examples in them rely on it.

A template of **several variables** is one that comes with ``variables``, or a saved one: there each ``{name}`` is a variable, if
``name`` is an identifier (ASCII letters, digits, ``_``), and ``{{name}}`` is the text ``{name}``. All else is text, so
``{"answer": {prompt}}`` is fine as it stands.

Filling is one pass: what a value contains is never expanded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from pipeline.errors import ClientError, InvalidField, Shown

PROMPT: Final = "prompt"
PLACEHOLDER: Final = "{prompt}"
#: Characters of a filled template: a value may stand in it many times, so that little text makes much.
MOST_FILLED: Final = 1024 * 1024
#: Variables of one prompt, and characters of a name.
MOST_VARIABLES: Final = 64
MOST_NAME: Final = 64

_NAME = f"[A-Za-z_][A-Za-z0-9_]{{0,{MOST_NAME - 1}}}"
_IDENTIFIER = re.compile(_NAME + r"\Z")
_VARIABLE = re.compile(rf"\{{\{{(?P<text>{_NAME})\}}\}}|\{{(?P<name>{_NAME})\}}")


class MissingVariable(ClientError):
    """A template has a variable that the prompt gives no value for."""

    def __init__(self, name: str) -> None:
        super().__init__(f"variables.{name}: got nothing, allowed is a string: the template has {{{name}}}")


def unescape_newlines(template: str) -> str:
    r"""A template as its author meant it: backslash-n becomes a newline.

    The document writes ``"### HUMAN:\n{prompt}"`` in shell double quotes, and the command line sends those two characters as
    they are (contract §9.3, note 6). A template that holds a real newline was not typed that way: its author can write
    newlines, so its backslashes stay. No other escape is in the document, so none is read: a path may have a ``\t`` in it.
    """
    return template if "\n" in template else template.replace("\\n", "\n")


def is_variable_name(name: str) -> bool:
    return _IDENTIFIER.match(name) is not None


def has_placeholder(template: str) -> bool:
    """Whether the prompt has a place in it."""
    return PLACEHOLDER in template


def variables_of(template: str) -> tuple[str, ...]:
    """Names of a template of several variables, ``prompt`` included, in the order of their first use."""
    return tuple(dict.fromkeys(match["name"] for match in _VARIABLE.finditer(template) if match["name"]))


def fill(template: str, prompt: str) -> str:
    """A template of one variable with every ``{prompt}`` replaced; one inside the prompt itself stays (contract §1.1).

    Raises:
        InvalidField: the result would be longer than ``MOST_FILLED``.
    """
    _check_length(len(template) + template.count(PLACEHOLDER) * (len(prompt) - len(PLACEHOLDER)))
    return template.replace(PLACEHOLDER, prompt)


def fill_all(template: str, prompt: str, variables: Mapping[str, str]) -> str:
    """A template of several variables with each replaced by its value; ``{prompt}`` is the prompt. Values that no variable asks
    for are left out.

    Raises:
        MissingVariable: names the first one without a value.
        InvalidField: the result would be longer than ``MOST_FILLED``.
    """
    values = {**variables, PROMPT: prompt}
    length = len(template)
    for match in _VARIABLE.finditer(template):
        name = match["name"]
        if name is None:
            length -= 2
        elif name in values:
            length += len(values[name]) - len(match[0])
        else:
            raise MissingVariable(name)
    _check_length(length)
    return _VARIABLE.sub(lambda match: values[match["name"]] if match["name"] else f"{{{match['text']}}}", template)


def _check_length(characters: int) -> None:
    if characters > MOST_FILLED:
        raise InvalidField(
            "template", Shown(f"{characters} characters with its values"), f"at most {MOST_FILLED} characters"
        )
