"""``oo env``: the services that the user knows, and which one is meant."""

from __future__ import annotations

import socket
import sys
from typing import Annotated
from urllib.parse import urlsplit

import typer

from clients.oo.config import Environment
from clients.oo.context import Context
from clients.oo.output import say, show

PANEL = "Which service"
#: How long a service has to answer a knock, seconds.
KNOCK_S = 0.5

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")

Name = Annotated[str, typer.Argument(help="Name of the environment.")]


@app.command()
def add(
    context: typer.Context,
    name: Name,
    url: Annotated[str, typer.Argument(help="Where the service is, for example http://127.0.0.1:11337.")],
    description: Annotated[str, typer.Argument(help="A word about it.", show_default=False)] = "",
) -> None:
    """Add a service, or change its address, and select it.

    For example:

        oo env add lab https://prompts.example.org "the GPU cluster"
    """
    own = Context.of(context)
    own.config.add_environment(name, url, description)
    own.config.save()
    say(f"selected {name} ({own.config.environment(name).url})")


@app.command()
def select(context: typer.Context, name: Name) -> None:
    """Choose the service that the next commands talk to."""
    own = Context.of(context)
    own.config.select_environment(name)
    own.config.save()
    say(f"selected {name} ({own.config.environment(name).url})")


@app.command("list", hidden=True)
@app.command("ls")
def list_all(context: typer.Context) -> None:
    """List the services, and whether they can be reached."""
    own = Context.of(context)
    rows = [
        {
            "name": environment.name,
            "url": environment.url,
            "description": environment.description,
            "user": environment.user or "",
            "selected": environment.name == own.environment.name,
            "reachable": _can_be_reached(environment),
        }
        for environment in own.config.environments()
    ]
    if not sys.stdout.isatty():
        show(rows)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("", "name", "url", "user", "reachable", "description", box=None)
    for row in rows:
        marks = ["*" if row["selected"] else "", row["name"], row["url"], row["user"]]
        table.add_row(*map(str, marks), "yes" if row["reachable"] else "no", str(row["description"]))
    Console().print(table)


@app.command()
def current(context: typer.Context) -> None:
    """Print the name of the selected service."""
    print(Context.of(context).environment.name)


@app.command("rm")
def remove(context: typer.Context, name: Name) -> None:
    """Forget a service and the tokens for it."""
    own = Context.of(context)
    own.config.remove_environment(name)
    own.config.save()
    say(f"removed {name}; selected {own.config.selected}")


def _can_be_reached(environment: Environment) -> bool:
    parts = urlsplit(environment.url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        with socket.create_connection((parts.hostname or "", port), KNOCK_S):
            return True
    except (OSError, ValueError):
        return False
