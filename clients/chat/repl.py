"""The loop: read a message, show its answer, again. Ctrl-C cancels an answer, Ctrl-D leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import httpx

from clients.chat.conversation import Canceled, Conversation, Done, Failed, Lost, Queued, Restarted, Text
from clients.chat.errors import Busy, ChatError
from clients.chat.line_input import FENCE, LineInput
from clients.chat.screen import Screen
from clients.chat.service import Service

_HELP = f"""\
/new            begin another conversation
/history        show this one
/model [NAME]   say which model answers, or choose one
/bye            leave, as Ctrl-D does
{FENCE}             begin and end a message of several lines
Ctrl-C          cancel the answer that is being written"""


class Repl:
    """One run of the chat."""

    def __init__(
        self,
        service: Service,
        screen: Screen,
        new_conversation: Callable[[str | None], Conversation],
        thread: str | None,
    ) -> None:
        self._service = service
        self._screen = screen
        self._new = new_conversation
        self._conversation = new_conversation(thread)
        #: Whether an answer failed.
        self.has_failed = False

    @property
    def thread(self) -> str | None:
        return self._conversation.thread

    def run(self, lines: LineInput) -> None:
        """Answer messages until there are no more. Raises ChatError where it cannot go on."""
        for message in self._messages(lines):
            if message.startswith("/") and self._screen.is_terminal:
                if not self._command(message):
                    return
            else:
                self._answer_here(message)

    def _messages(self, lines: LineInput) -> Iterator[str]:
        while True:
            try:
                message = lines.message()
            except KeyboardInterrupt:
                if not self._screen.is_terminal:
                    raise
                self._screen.note("\nCtrl-D or /bye leaves")
                continue
            if message is None:
                return
            if message.strip():
                yield message

    def _answer_here(self, message: str) -> None:
        """Answer one of several messages: in front of a terminal an error is not the end."""
        try:
            self.answer(message)
        except ChatError as error:
            if not self._screen.is_terminal:
                raise
            self._screen.note(f"prompt-chat: {error}")

    def answer(self, message: str) -> None:
        """Show the answer to a message.

        Raises:
            ChatError: the service refuses it, or cannot be reached.
            KeyboardInterrupt: through a pipe, once the answer is cancelled.
        """
        try:
            with self._screen.waiting("thinking"), closing(self._conversation.ask(message)) as events:
                for event in events:
                    match event:
                        case Queued(position):
                            if position is not None and position > 1:
                                self._screen.wait_for(f"waiting, {position - 1} in front")
                        case Text(text):
                            self._screen.write(text)
                        case Restarted():
                            self._screen.note("the answer begins anew:")
                        case Lost(why):
                            self._screen.note(f"connection lost ({why}), connecting again …")
                        case Failed(why):
                            self.has_failed = True
                            self._screen.note(f"no answer: {why}")
                        case Canceled():
                            self.has_failed = True
                            self._screen.note("cancelled")
                        case Done():
                            self._screen.end_line()
        except KeyboardInterrupt:
            self._cancel()
            if not self._screen.is_terminal:
                raise

    def _cancel(self) -> None:
        try:
            self._conversation.cancel()
        except (ChatError, Busy, httpx.HTTPError) as error:
            self._screen.note(f"it could not be cancelled: {error}")
        else:
            self._screen.note("cancelled")

    def _command(self, line: str) -> bool:
        """Do what a line with a slash says. False to leave."""
        name, _, rest = line.strip().partition(" ")
        match name:
            case "/bye" | "/exit" | "/quit":
                return False
            case "/new":
                self._conversation = self._new(None)
                self._screen.note("a new conversation")
            case "/history":
                self._show_history()
            case "/model":
                self._choose_model(rest.strip())
            case "/help" | "/?":
                self._screen.note(_HELP)
            case _:
                self._screen.note(f"{name}: no such command; /help names them")
        return True

    def _show_history(self) -> None:
        if self._conversation.thread is None:
            self._screen.note("nothing was said yet")
            return
        try:
            for said in self._service.history(self._conversation.thread):
                self._screen.write(f"{'> ' if said.is_users else ''}{said.text}")
                self._screen.end_line()
        except (ChatError, Busy, httpx.HTTPError) as error:
            self._screen.note(f"prompt-chat: {error}")

    def _choose_model(self, name: str) -> None:
        options = self._conversation.options
        if name:
            options["modelId"] = name
        self._screen.note(f"answers come from {options.get('modelId', 'the default model')}")
