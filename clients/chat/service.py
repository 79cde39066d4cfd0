"""The service's own API as a chat needs it: conversations, prompts in them, and their answers as events."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from clients.chat.errors import Busy, ChatError, NotAllowed
from clients.chat.login import Login
from clients.http_errors import error_text, is_away


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamEvent:
    """One event of a conversation's subscription."""

    id: str
    data: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """A message of the past."""

    is_users: bool
    text: str


class Service:
    """Every method may raise an error of httpx where the connection is lost, Busy, NotAllowed and ChatError."""

    def __init__(self, http: httpx.Client, login: Login) -> None:
        self._http = http
        self._login = login

    def who(self) -> str:
        """The user's name at the service."""
        user = self._call("POST", "/user-svc/self", {}).get("user", {})
        return str(user.get("name") or user.get("slug") or user.get("id"))

    def begin(self) -> str:
        """Make a conversation; its id."""
        return str(self._call("POST", "/chat-svc/thread", {})["thread"]["id"])

    def exists(self, thread: str) -> bool:
        try:
            self._call("GET", f"/chat-svc/thread/{_path(thread)}")
        except Missing:
            return False
        return True

    def history(self, thread: str) -> Iterator[Said]:
        """What was said in a conversation, the first first."""
        after: str | None = None
        while True:
            page = self._call("POST", f"/chat-svc/thread/{_path(thread)}/messages", {"after": after} if after else {})
            for message in page.get("messages", []):
                yield Said(is_users="userId" in message, text=str(message.get("text", "")))
            after = page.get("after")
            if after is None:
                return

    def submit(self, prompt_id: str, thread: str, text: str, options: Mapping[str, Any]) -> int | None:
        """Have a text answered; where it stands in the queue, if it has to wait. The same id again is the same prompt."""
        body = {"id": prompt_id, "threadId": thread, "prompt": text, **options}
        position = self._call("POST", "/prompt-svc/prompt", body).get("queuePosition")
        return None if position is None else int(position)

    def read(self, prompt_id: str) -> dict[str, Any]:
        """A prompt, with its answer once there is one. Raises Missing."""
        return self._call("GET", f"/prompt-svc/prompt/{_path(prompt_id)}")

    def cancel(self, prompt_id: str) -> None:
        """Cancel a prompt unless it has ended: what has is not to be erased. A prompt that never arrived is none."""
        try:
            status = self.read(prompt_id)["prompt"]["status"]
            if status not in ("completed", "abandoned", "canceled"):
                self._call("DELETE", f"/prompt-svc/prompt/{_path(prompt_id)}")
        except Missing:
            return

    @contextmanager
    def subscribe(self, thread: str, cursor: str | None) -> Iterator[Iterator[StreamEvent]]:
        """Events of a conversation from behind ``cursor``; without one, from the beginning of the first answer that is not
        finished, or from now on. Entered once the service listens; they end when it closes the stream."""
        path = f"/prompt-svc/prompts/{_path(thread)}/responses/subscribe"
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": cursor} if cursor else {})}
        with self._stream(path, headers) as response:
            yield _events(_lines(response.iter_bytes()))

    @contextmanager
    def _stream(self, path: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        for token in (self._login.token, self._login.renew):
            authorization = {"Authorization": f"Bearer {token()}"}
            with self._http.stream("GET", path, headers={**headers, **authorization}) as response:
                if response.status_code == 200:
                    yield response
                    return
                response.read()
                if response.status_code != 401:
                    raise _refused("GET", path, response)
        raise NotAllowed("the service does not let you listen to this conversation")

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        content = None if body is None else json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        for token in (self._login.token, self._login.renew):
            headers = {"Authorization": f"Bearer {token()}", "Content-Type": "application/json"}
            response = self._http.request(method, path, content=content, headers=headers)
            if response.status_code == 200:
                return _object(response)
            if response.status_code != 401:
                raise _refused(method, path, response)
        raise NotAllowed(f"the service does not allow you {method} {path}")


class Missing(ChatError):
    """There is no such thing."""


def _path(part: str) -> str:
    return quote(part, safe="")


def _object(response: httpx.Response) -> dict[str, Any]:
    try:
        found = response.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ChatError(f"{response.request.url} does not answer as a Prompt Svc; is it the right address?")
    return found


def _refused(method: str, path: str, response: httpx.Response) -> Exception:
    words = error_text(response)
    if is_away(response):
        return Busy(words)
    return (Missing if response.status_code == 404 else ChatError)(f"{method} {path}: {response.status_code} {words}")


def _lines(chunks: Iterator[bytes]) -> Iterator[str]:
    """The lines that are whole. They end at a line feed alone: httpx ends one at U+2028, U+2029 and U+0085 as well, which stand
    for themselves in the middle of an event's JSON."""
    begun: list[bytes] = []
    for chunk in chunks:
        end, *others = chunk.split(b"\n")
        begun.append(end)
        for other in others:
            yield b"".join(begun).decode("utf-8", "replace").removesuffix("\r")
            begun = [other]


def _events(lines: Iterator[str]) -> Iterator[StreamEvent]:
    """Server-Sent Events from their lines. Comments, which keep the connection open, are passed over."""
    event_id, data = "", ""
    for line in lines:
        if not line:
            if data:
                yield StreamEvent(id=event_id, data=json.loads(data))
            data = ""
        elif line.startswith("id:"):
            event_id = line[3:].strip()
        elif line.startswith("data:"):
            data += line[5:].strip()
