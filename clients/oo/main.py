"""The command ``oo``: its commands put together, and what becomes of their errors."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from clients.oo import accounts, calls, environments
from clients.oo.errors import OoError
from clients.oo.output import say

app = typer.Typer(
    name="oo",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    # A traceback's values may be prompts or tokens.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


@app.callback()
def oo(
    env: Annotated[
        str | None,
        typer.Option("--env", "-e", metavar="NAME", help="Talk to this service, not to the selected one."),
    ] = None,
) -> None:
    """Talk to a Prompt Svc: submit prompts, follow their answers, list and remove them.

    **Begin** with `make serve` in another terminal, then:

        oo login 1backend changeme

        oo post /prompt-svc/prompt --prompt="Explain quantum computing in simple terms" --sync=true

        oo post /prompt-svc/prompts

        oo delete /prompt-svc/prompt/prom_12345

    Answers are JSON on stdout; errors go to stderr, with exit code 1. `oo COMMAND --help` shows more examples.
    """


for call in (calls.post, calls.get, calls.put, calls.delete):
    app.command(context_settings=calls.SETTINGS, rich_help_panel=calls.PANEL)(call)
for account in (accounts.login, accounts.register, accounts.whoami, accounts.token):
    app.command(rich_help_panel=accounts.PANEL)(account)
app.command(rich_help_panel=accounts.PANEL)(accounts.su)
app.command("set-token", rich_help_panel=accounts.PANEL)(accounts.set_token)
app.add_typer(
    environments.app,
    name="env",
    help="The services you know: `add`, `select`, `ls`, `current`, `rm`.",
    rich_help_panel=environments.PANEL,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0 if it went well, else 1; 130 after Ctrl-C."""
    try:
        app(args=None if arguments is None else list(arguments), prog_name="oo")
    except OoError as error:
        say(f"oo: {error}")
        sys.exit(1)
    except SystemExit as end:
        # Click's 2 for wrong usage is a 1 here, like every error.
        sys.exit(1 if end.code == 2 else end.code)
