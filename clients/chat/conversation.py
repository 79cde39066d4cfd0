"""One conversation: a text goes in, its answer comes out piece by piece, whatever happens to the connection meanwhile."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import httpx

from clients.chat.errors import Busy, ChatError
from clients.chat.service import Missing, Service, StreamEvent

#: From the beginning of a conversation, however early its first answer was.
_BEGINNING = "0-0"
#: Seconds until the next try to connect: doubled each time, up to the most.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 4.0


@dataclass(frozen=True, slots=True)
class Queued:
    """It is accepted; ``position`` is where it waits, None if it does not."""

    position: int | None


@dataclass(frozen=True, slots=True)
class Text:
    """The next piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Restarted:
    """What came so far is void, the answer begins anew."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection is lost (``why``) and tried again; the answer goes on where it was."""

    why: str


@dataclass(frozen=True, slots=True)
class Done:
    """The answer is complete."""


@dataclass(frozen=True, slots=True)
class Failed:
    """There will be no answer."""

    why: str


@dataclass(frozen=True, slots=True)
class Canceled:
    """Somebody has cancelled it."""


Event: TypeAlias = Queued | Text | Restarted | Lost | Done | Failed | Canceled


class Conversation:
    """A thread of the service, made with its first text or one that is there already."""

    def __init__(
        self,
        service: Service,
        *,
        thread: str | None = None,
        options: Mapping[str, Any] | None = None,
        patience_s: float = 120,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            options: of the prompt's request, such as ``modelId`` and ``parameters``.
            patience_s: how long a lost connection is tried again, seconds.
        """
        self._service = service
        self.thread = thread
        self.options: dict[str, Any] = dict(options or {})
        self._patience_s = patience_s
        self._pause = pause
        self._clock = clock
        #: The last event seen, None before there was any.
        self._cursor: str | None = None
        self._asked: str | None = None

    def ask(self, text: str) -> Generator[Event, None, None]:
        """Have a text answered. The last event is Done, Failed or Canceled.

        Raises:
            ChatError: the service refuses it, or cannot be reached for as long as patience lasts.
        """
        prompt_id = self._asked = f"prom-{secrets.token_hex(16)}"
        is_submitted = may_be_there = False
        lost_at: float | None = None
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                thread = self._ready_thread()
                with self._service.subscribe(thread, self._cursor) as events:
                    # From the first try on, even one whose reply was lost.
                    may_have_ended, may_be_there = may_be_there, True
                    if not is_submitted:
                        # Its id is ours: submitted again after a connection that broke off it is still one prompt.
                        position = self._service.submit(prompt_id, thread, text, self.options)
                        is_submitted = True
                        yield Queued(position)
                    if may_have_ended and self._cursor is None and (over := self._ended_unheard(prompt_id)) is not None:
                        yield from over
                        return
                    for event in events:
                        lost_at, pause_s = None, _FIRST_PAUSE_S
                        self._cursor = event.id
                        for shown in _shown(event, prompt_id):
                            yield shown
                            if isinstance(shown, Done | Failed | Canceled):
                                return
                why = "the service closed the connection"
            except Busy as error:
                why = str(error)
            except (httpx.TransportError, httpx.StreamError) as error:
                why = str(error).rpartition("] ")[2].lower() or type(error).__name__
            now = self._clock()
            lost_at = now if lost_at is None else lost_at
            if now - lost_at >= self._patience_s:
                raise ChatError(f"the service cannot be reached: {why}")
            yield Lost(why)
            self._pause(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def cancel(self) -> None:
        """Cancel what was asked last, if it has not ended. Raises as the service does."""
        if self._asked is not None:
            self._service.cancel(self._asked)

    def _ready_thread(self) -> str:
        if self.thread is None:
            self.thread = self._service.begin()
            self._cursor = _BEGINNING
        return self.thread

    def _ended_unheard(self, prompt_id: str) -> list[Event] | None:
        """The end of a prompt that came while nobody listened; None if it has not ended. Without a position to go on from, a
        subscription does not tell of it."""
        try:
            found = self._service.read(prompt_id)
        except Missing:
            return [Failed("the prompt was removed")]
        match found["prompt"]["status"]:
            case "completed":
                return [Text(str(found.get("responseMessage", {}).get("text", ""))), Done()]
            case "abandoned":
                return [Failed(str(found["prompt"].get("error") or "the prompt was abandoned"))]
            case "canceled":
                return [Canceled()]
        return None


def _shown(event: StreamEvent, prompt_id: str) -> list[Event]:
    """What an event says of a prompt; nothing if it is another's."""
    data = event.data
    if data.get("promptId") != prompt_id:
        return []
    text = str(data.get("text", ""))
    match data.get("type"):
        case "progress":
            return [Text(text)]
        case "done":
            return [*([Text(text)] if text else []), Done()]
        case "restart":
            return [Restarted()]
        case "error":
            return [Failed(text or "the prompt was abandoned")]
        case "canceled":
            return [Canceled()]
    return []
