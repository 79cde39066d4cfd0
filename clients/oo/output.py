"""What a command prints: JSON indented by two spaces, streams and files as they come."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import httpx

from clients.oo.errors import OoError


def show_response(response: httpx.Response) -> None:
    """Print the body of an answer that is not read yet; events of a stream at once.

    Raises:
        OoError: it is a file, and would go to a terminal.
    """
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind == "text/event-stream":
        for chunk in response.iter_bytes():
            _write(chunk)
        return
    if kind == "application/json":
        response.read()
        try:
            show(response.json())
        except ValueError:
            _write(response.content)
        return
    if sys.stdout.isatty() and not kind.startswith("text/"):
        raise OoError(f"the answer is a file ({kind or 'of unknown type'}): send it to one with > FILE")
    for chunk in response.iter_bytes():
        _write(chunk)


def show(value: Any) -> None:
    """Print a JSON value, in colours on a terminal (unless NO_COLOR is set)."""
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        from rich.console import Console

        Console().print_json(data=value, indent=2, ensure_ascii=False)
        return
    _write(json.dumps(value, indent=2, ensure_ascii=False).encode("utf-8", "replace") + b"\n")


def say(line: str) -> None:
    """Tell the user something that is not the command's result: on stderr."""
    print(line, file=sys.stderr)


def _write(data: bytes) -> None:
    # Bytes: JSON is UTF-8 whatever the locale says, and a reader of a pipe wants every event now.
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
