"""The words behind ``oo post``: a path, then ``--dotted.key=value`` flags that become one JSON object.

A value is sent as what it looks like in JSON: an integer, a decimal number, ``true``, ``false``, an array, an object; all else is
text. Texts that only look like JSON stay what the user wrote: those of fields that hold text, and numbers that would not come
back digit by digit (``007``, ``1.10``). The server takes them for numbers where it wants numbers. The published command line
knows integers and booleans only; docs/command-line.md lists the differences.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

from clients.oo.errors import OoError

#: Last parts of keys whose values are text whatever they look like: ``--prompt="42"`` asks about a number.
TEXT_FIELDS = frozenset(
    {
        *("prompt", "negativePrompt", "negative_prompt", "template", "templateName", "text", "title", "name"),
        "description",
        *("id", "threadId", "modelId", "promptId", "messageId", "userId", "slug", "password"),
    }
)
#: Objects all of whose values are text.
TEXT_OBJECTS = frozenset({"variables"})

_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?\Z")
#: Integers beyond 64 bits are kept as text: JSON readers make floats of them.
_INTEGERS = range(-(2**63), 2**63)


def split(words: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The path and the object that the flags make.

    Raises:
        OoError: there is no path, a path word behind a flag, or a flag that is wrong.
    """
    first_flag = next((i for i, word in enumerate(words) if word.startswith("--")), len(words))
    path, flags = words[:first_flag], words[first_flag:]
    if not path:
        raise OoError("the path is missing, for example: oo post /prompt-svc/prompts")
    return "/" + "/".join(word.strip("/") for word in path), to_object(flags)


def to_object(flags: Sequence[str]) -> dict[str, Any]:
    """Flags as nested objects: keys are split at dots, a key given again makes an array, in order.

    Raises:
        OoError: names the flag and how it should be written.
    """
    root: dict[str, Any] = {}
    repeated: set[str] = set()
    for flag in flags:
        key, equals, text = flag.removeprefix("--").partition("=")
        if not flag.startswith("--") or not equals:
            raise OoError(f"{_short(flag)}: got no value, write --{_short(flag.lstrip('-')) or 'key'}=VALUE")
        *parents, leaf = key.split(".")
        if not all((*parents, leaf)):
            raise OoError(f"--{_short(key)}: a part of the key is empty")
        target = root
        for part in parents:
            target = target.setdefault(part, {})
            if not isinstance(target, dict):
                raise OoError(f"--{_short(key)}: {part} has a value of its own already")
        value = value_of(text) if not _holds_text(parents, leaf) else text
        if leaf not in target:
            target[leaf] = value
        elif isinstance(target[leaf], dict) and key not in repeated and not isinstance(value, dict):
            raise OoError(f"--{_short(key)}: {leaf} is an object already")
        elif key in repeated:
            target[leaf].append(value)
        else:
            target[leaf] = [target[leaf], value]
            repeated.add(key)
    return root


def value_of(text: str) -> Any:
    """A flag's text as the JSON value it looks like, else the text itself."""
    if text in ("true", "false"):
        return text == "true"
    if _NUMBER.match(text):
        number = json.loads(text)
        is_exact = number in _INTEGERS if isinstance(number, int) else math.isfinite(number)
        return number if is_exact and json.dumps(number) == text else text
    if text.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return text


def _holds_text(parents: Sequence[str], leaf: str) -> bool:
    return leaf in TEXT_FIELDS or bool(TEXT_OBJECTS.intersection(parents))


def _short(text: str) -> str:
    """A flag's name for an error message, never what follows it."""
    return text.partition("=")[0][:40]
