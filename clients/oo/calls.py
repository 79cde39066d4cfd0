"""``oo post``, ``get``, ``put`` and ``delete``: one request each."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from clients.oo.api import request
from clients.oo.context import Context
from clients.oo.flags import split
from clients.oo.output import show_response

PANEL = "Requests"
#: Flags are fields of the request, not options of ours, so click must let them through. ``--help`` remains.
SETTINGS = {"ignore_unknown_options": True}

Words = Annotated[
    list[str], typer.Argument(metavar="PATH [--field=VALUE]...", help="The path, then the fields of the request.")
]


def post(context: typer.Context, words: Words) -> None:
    """Send a POST request: submit, list, save.

    Flags become the JSON body. Dots nest; a value that is JSON (a number, true, an array, an object) is sent as such.

    **Ask and wait for the answer:**

        oo post /prompt-svc/prompt --prompt="What is 2+2?" --sync=true

    **Ask, and follow the answer as it is written:**

        oo post /prompt-svc/prompt --prompt="Write an essay" --threadId="essay" --sync=false

        oo get /prompt-svc/prompts/essay/responses/subscribe

    **Nested fields:**

        oo post /prompt-svc/prompt --prompt="Hello" --parameters.textToText.template="[INST] {prompt} [/INST]"

    **List what is running, and count what waits:**

        oo post /prompt-svc/prompts --query.filters='[{"field": "status", "operator": "equals", "value": "running"}]'

        oo post /prompt-svc/prompts --query.count=true | jq .count
    """
    _send_body(context, "POST", words)


def put(context: typer.Context, words: Words) -> None:
    """Send a PUT request: start, replace. Flags become the JSON body, as with post.

    For example:

        oo put /model-svc/default-model/start
    """
    _send_body(context, "PUT", words)


def get(context: typer.Context, words: Words) -> None:
    """Send a GET request: read, or follow a stream until Ctrl-C. Flags become the query string.

    For example:

        oo get /model-svc/default-model/status

        oo get /prompt-svc/prompts/essay/responses/subscribe

        oo get /file-svc/serve/upload/FILE_ID > picture.png
    """
    path, fields = split(words)
    query = dict(_flattened(fields))
    with request(Context.of(context).environment, "GET", path, query=query) as response:
        show_response(response)


def delete(context: typer.Context, words: Words) -> None:
    """Send a DELETE request: cancel or remove. Flags, if any, become the JSON body.

    For example:

        oo delete /prompt-svc/prompt/prom_12345
    """
    path, fields = split(words)
    with request(Context.of(context).environment, "DELETE", path, body=fields or None) as response:
        show_response(response)


def _send_body(context: typer.Context, method: str, words: list[str]) -> None:
    path, fields = split(words)
    with request(Context.of(context).environment, method, path, body=fields) as response:
        show_response(response)


def _flattened(fields: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested fields as the parameters of a query string: keys with dots again."""
    found: list[tuple[str, str]] = []
    for key, value in fields.items():
        if isinstance(value, dict):
            found += _flattened(value, f"{prefix}{key}.")
        else:
            found.append((prefix + key, value if isinstance(value, str) else json.dumps(value)))
    return found
