"""Templates that a client puts around a prompt: one variable, ``{prompt}``."""

from __future__ import annotations

PLACEHOLDER = "{prompt}"


def unescape_newlines(template: str) -> str:
    r"""A template as its author meant it: backslash-n becomes a newline.

    The document writes ``"### HUMAN:\n{prompt}"`` in shell double quotes, and the command line sends those two characters as
    they are (contract §9.3, note 6). A template that holds a real newline was not typed that way: its author can write
    newlines, so its backslashes stay.
    """
    return template if "\n" in template else template.replace("\\n", "\n")


def has_placeholder(template: str) -> bool:
    return PLACEHOLDER in template


def fill(template: str, prompt: str) -> str:
    """``template`` with every ``{prompt}`` replaced; a ``{prompt}`` inside the prompt itself stays (contract §1.1)."""
    return template.replace(PLACEHOLDER, prompt)
