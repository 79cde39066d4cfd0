"""The command ``prompt-chat``: its options, and what becomes of its errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
import typer

from clients.chat.conversation import Conversation
from clients.chat.errors import Busy, ChatError
from clients.chat.line_input import LineInput, history_path
from clients.chat.login import Login, NameLogin, TokenLogin, own_name
from clients.chat.repl import Repl
from clients.chat.screen import Screen
from clients.chat.service import Service
from clients.oo.config import Config, Environment, config_path
from clients.oo.errors import OoError

#: An answer failed or was cancelled, though the chat went well.
NO_ANSWER = 3
#: Seconds without a sign of life, of which the service gives one every 15 s, after which a connection counts as lost.
_SILENCE_S = 45.0

app = typer.Typer(
    name="prompt-chat",
    rich_markup_mode="markdown",
    add_completion=False,
    # A traceback's values may be prompts or tokens.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


@app.command()
def chat(
    message: Annotated[
        list[str] | None,
        typer.Argument(help="Ask this, show the answer and leave; `-` asks all of stdin.", show_default=False),
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Where the service is. Default: what `oo env` has selected.", show_default=False)
    ] = None,
    user: Annotated[
        str | None, typer.Option(help="Log in under this name, where the service asks for no password.")
    ] = None,
    token: Annotated[str | None, typer.Option(envvar="PROMPT_CHAT_TOKEN", help="An access token of your own.")] = None,
    thread: Annotated[str | None, typer.Option(help="Go on with this conversation.")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="The model that answers.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0, max=2, help="0 is always the likeliest word.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Most tokens of an answer.")] = None,
    patience: Annotated[float, typer.Option(min=0, help="How long to try a lost connection again, seconds.")] = 120,
    remember: Annotated[bool, typer.Option(help="Remember what was typed for the arrow keys.")] = True,
) -> None:
    """Talk with a model.

    **Begin** with `make serve` in another terminal, then:

        prompt-chat

        prompt-chat "What is the capital of France?"

        printf 'My name is Ada.\\nWhat is my name?\\n' | prompt-chat

    Through a pipe every line is a message of one conversation, and stdout holds the answers. Ctrl-C cancels an answer, a lost
    connection is taken up where it was. Exit codes: 0, 1 for an error, 3 where an answer failed, 130 after Ctrl-C.
    """
    screen = Screen()
    environment = _environment(url)
    with _connect(environment.url) as http:
        service = Service(http, _login(http, environment, user=user, token=token))
        options = _options(model=model, temperature=temperature, max_tokens=max_tokens)

        def new_conversation(of: str | None) -> Conversation:
            return Conversation(service, thread=of, options=options, patience_s=patience)

        try:
            # At once and not with the first question: that somebody is there, and lets the user in.
            name = service.who()
            if thread is not None and not service.exists(thread):
                raise ChatError(f"--thread: you have no conversation {thread}")
            repl = Repl(service, screen, new_conversation, thread)
            if message:
                repl.answer(sys.stdin.read() if message == ["-"] else " ".join(message))
            else:
                screen.greet(f"{environment.url} as {name} · /help for help, Ctrl-D to leave")
                _loop(repl, screen, remember=remember)
        except (httpx.HTTPError, Busy) as error:
            reason = str(error).rpartition("] ")[2].lower() or type(error).__name__
            raise ChatError(f"cannot reach {environment.url}: {reason}. Start the service with `make serve`") from None
    if repl.has_failed and (message or not screen.is_terminal):
        raise typer.Exit(NO_ANSWER)


def _loop(repl: Repl, screen: Screen, *, remember: bool) -> None:
    lines = LineInput(screen, history=history_path(os.environ) if remember else None)
    try:
        repl.run(lines)
    finally:
        lines.keep()
    if repl.thread is not None:
        screen.greet(f"go on with: prompt-chat --thread {repl.thread}")


def _environment(url: str | None) -> Environment:
    """The service: the one at the URL, with the login that ``oo`` has for it, else the one that is selected there."""
    try:
        config = Config.load(config_path(os.environ))
        if url is None:
            return config.environment()
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ChatError(f"--url: got {url}, allowed is http://HOST[:PORT] or https://HOST[:PORT]")
        known = [environment for environment in config.environments() if environment.url == url.rstrip("/")]
    except OoError as error:
        raise ChatError(str(error)) from None
    return known[0] if known else Environment(name=url, url=url.rstrip("/"))


def _login(http: httpx.Client, environment: Environment, *, user: str | None, token: str | None) -> Login:
    if user is not None:
        return NameLogin(http, user)
    if token:
        return TokenLogin(token, hint="give another one: --token")
    if environment.token is not None:
        return TokenLogin(environment.token, hint=f"log in again: oo login {environment.user}")
    return NameLogin(http, own_name())


def _connect(url: str) -> httpx.Client:
    # A proxy is for the way out; this machine is not reached through one.
    is_here = urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
    timeout = httpx.Timeout(10, read=_SILENCE_S)
    return httpx.Client(base_url=url, timeout=timeout, trust_env=not is_here)


def _options(*, model: str | None, temperature: float | None, max_tokens: int | None) -> dict[str, Any]:
    sampling = {"temperature": temperature, "maxTokens": max_tokens}
    given = {name: value for name, value in sampling.items() if value is not None}
    return {
        **({"modelId": model} if model else {}),
        **({"parameters": {"textToText": given}} if given else {}),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit."""
    try:
        app(args=None if arguments is None else list(arguments), prog_name="prompt-chat")
    except ChatError as error:
        print(f"prompt-chat: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except SystemExit as end:
        # Click's 2 for wrong usage is a 1 here, like every error.
        sys.exit(1 if end.code == 2 else end.code)
