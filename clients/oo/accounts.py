"""``oo login`` and its like: who the user is. Passwords are asked for without echo and never kept."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from clients.oo.api import call, login_hint
from clients.oo.config import APP_HOST, Environment
from clients.oo.context import Context
from clients.oo.errors import OoError
from clients.oo.output import say, show

PANEL = "Who you are"

Slug = Annotated[str | None, typer.Argument(help="Your user name; asked for if left out.")]
Password = Annotated[
    str | None,
    typer.Argument(help="Asked for without echo if left out; in a script also read from a pipe.", show_default=False),
]


def login(context: typer.Context, slug: Slug = None, password: Password = None) -> None:
    """Log in and keep the token.

    The first start of `make serve` makes the admin `1backend` with the password `changeme`:

        oo login 1backend changeme
    """
    _enter(context, "/user-svc/login", slug, password, "logged in to")


def register(context: typer.Context, slug: Slug = None, password: Password = None) -> None:
    """Make an account and log in with it.

    For example:

        oo register alice
    """
    _enter(context, "/user-svc/register", slug, password, "registered and logged in to")


def token(context: typer.Context) -> None:
    """Print the token, for curl.

    For example:

        TOKEN=$(oo token)

        curl -N -H "Authorization: Bearer $TOKEN" http://localhost:11337/prompt-svc/prompts/essay/responses/subscribe
    """
    print(_logged_in(Context.of(context).environment).token)


def whoami(context: typer.Context) -> None:
    """Show who the service says you are."""
    show(call(_logged_in(Context.of(context).environment), "POST", "/user-svc/self", {}))


def su(context: typer.Context, slug: Annotated[str, typer.Argument(help="Somebody who has logged in here.")]) -> None:
    """Become another user who has logged in here before."""
    own = Context.of(context)
    environment = own.environment
    own.config.select_user(environment.name, slug)
    own.config.save()
    say(f"now {slug} in {environment.name}")


def set_token(
    context: typer.Context,
    token: Annotated[
        str | None, typer.Argument(help="The token; asked for if left out, in a script also read from a pipe.")
    ] = None,
) -> None:
    """Log in with a token that you have, once the service has said whose it is.

    For example:

        oo set-token < token.txt
    """
    own = Context.of(context)
    environment = own.environment
    encoded = (token or _secret("token")).strip()
    bearer = Environment(name=environment.name, url=environment.url, token=encoded)
    slug = _text_at(call(bearer, "POST", "/user-svc/self", {}), "user", "slug")
    own.config.store_token(environment.name, slug, encoded)
    own.config.save()
    say(f"logged in to {environment.name} ({environment.url}) as {slug}")


def _enter(context: typer.Context, path: str, slug: str | None, password: str | None, what_was_done: str) -> None:
    own = Context.of(context)
    environment = own.environment
    slug = slug or _asked("slug")
    body = {"appHost": APP_HOST, "device": "cli", "slug": slug, "password": password or _secret("password")}
    anonymous = Environment(name=environment.name, url=environment.url)
    own.config.store_token(environment.name, slug, _text_at(call(anonymous, "POST", path, body), "token", "token"))
    own.config.save()
    say(f"{what_was_done} {environment.name} ({environment.url}) as {slug}")


def _logged_in(environment: Environment) -> Environment:
    if environment.token is None:
        raise OoError(f"not logged in; {login_hint(environment)}")
    return environment


def _asked(what: str) -> str:
    if not sys.stdin.isatty():
        raise OoError(f"the {what} is missing")
    return str(typer.prompt(what, err=True))


def _secret(what: str) -> str:
    """Asked for without echo on a terminal, else the first line of stdin."""
    secret = (
        str(typer.prompt(what, hide_input=True, err=True))
        if sys.stdin.isatty()
        else sys.stdin.readline().rstrip("\r\n")
    )
    if not secret:
        raise OoError(f"the {what} is missing: give it as an argument, or through a pipe")
    return secret


def _text_at(answer: Any, *path: str) -> str:
    for key in path:
        answer = answer.get(key) if isinstance(answer, dict) else None
    if not isinstance(answer, str) or not answer:
        raise OoError(f"the answer has no {'.'.join(path)}; is this the right address? (oo env current)")
    return answer
