"""A user of the service over HTTP, every call of whom is recorded, and independent readers of streams."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Any

import httpx

from tests.chaos.history import Asked, Connection, Event, History, Kind, Outcome, Pending

#: Longest a call may take before its client gives it up, seconds; a sync one may wait for its answer.
CALL_S, SYNC_S = 8.0, 150.0
#: A stream is silent for at most this long: the service sends a comment every 15 s.
SILENCE_S = 20.0
#: First and longest pause before trying again, seconds.
PAUSE_S, LONGEST_PAUSE_S = 0.05, 0.4
#: The cursor in front of everything in a thread.
BEGINNING = "0-0"


class User:
    """One registered user with a connection pool of their own."""

    def __init__(self, url: str, user_id: str, token: str) -> None:
        self.id = user_id
        self.http = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(CALL_S, connect=2.0),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=8),
        )

    async def close(self) -> None:
        await self.http.aclose()


def register(url: str, count: int) -> list[tuple[str, str]]:
    """(user id, token) of new users."""
    users = []
    with httpx.Client(base_url=url, timeout=30) as http:
        for _ in range(count):
            body = {"appHost": "chaos", "slug": f"chaos-{secrets.token_hex(6)}", "password": "correct horse battery"}
            answer = http.post("/user-svc/register", json=body).raise_for_status().json()
            users.append((answer["token"]["userId"], answer["token"]["token"]))
    return users


class Caller:
    """The operations of one user, recorded in one history."""

    def __init__(self, user: User, history: History) -> None:
        self.user = user
        self._history = history

    async def submit(self, asked: Asked) -> Outcome:
        with self._history.operation(Kind.SUBMIT, self.user.id, asked.id) as pending:
            answer = await self._post(pending, "/prompt-svc/prompt", {**asked.body, "sync": False})
            _check_echo(pending, answer, asked)
        return pending.outcome

    async def submit_and_wait(self, asked: Asked) -> Outcome:
        with self._history.operation(Kind.SUBMIT_SYNC, self.user.id, asked.id) as pending:
            answer = await self._post(pending, "/prompt-svc/prompt", {**asked.body, "sync": True}, timeout_s=SYNC_S)
            _check_echo(pending, answer, asked)
            if answer and "responseMessage" in answer:
                pending.answer = answer["responseMessage"]["text"]
        return pending.outcome

    async def submit_until_known(self, asked: Asked, *, sync: bool, deadline: float) -> bool:
        """Submit, again and again under the same id, until the outcome is known. Whether it was accepted."""
        pause = PAUSE_S
        call = self.submit_and_wait if sync else self.submit
        while time.monotonic() < deadline:
            if await call(asked) is Outcome.OK:
                return True
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)
        return False

    async def cancel(self, prompt_id: str, entries: Callable[[], int] | None = None) -> Outcome:
        """
        Args:
            entries: reads the length of the prompt's log, to be recorded right after the acknowledgement.
        """
        with self._history.operation(Kind.CANCEL, self.user.id, prompt_id) as pending:
            await self._post(pending, "/prompt-svc/remove", {"promptId": prompt_id})
            pending.is_ended()
            if pending.outcome is Outcome.OK and entries is not None:
                # A store that is killed right now has no say in whether the cancel was acknowledged.
                with suppress(Exception):
                    pending.entries = entries()
        return pending.outcome

    async def list_thread(self, thread: str) -> Outcome:
        query = {"filters": [{"field": "threadId", "operator": "equals", "value": thread}], "limit": 100}
        with self._history.operation(Kind.LIST, self.user.id) as pending:
            await self._post(pending, "/prompt-svc/prompts", {"query": query})
        return pending.outcome

    async def get(self, prompt_id: str) -> Outcome:
        query = {"filters": [{"field": "id", "operator": "equals", "value": prompt_id}], "count": True}
        with self._history.operation(Kind.GET, self.user.id, prompt_id) as pending:
            answer = await self._post(pending, "/prompt-svc/prompts", {"query": query})
            if answer is not None and [row["id"] for row in answer["prompts"]] not in ([prompt_id], []):
                pending.outcome, pending.detail = Outcome.INFO, "another prompt was listed"
        return pending.outcome

    async def subscribe(self, thread: str) -> Outcome:
        """Open a stream up to its first bytes."""
        with self._history.operation(Kind.SUBSCRIBE, self.user.id) as pending:
            try:
                async with self.user.http.stream("GET", _stream_of(thread)) as response:
                    pending.status = response.status_code
                    async for _ in response.aiter_raw():
                        break
                    pending.outcome = Outcome.OK if response.status_code == 200 else Outcome.FAIL
                    pending.is_ended()
            except httpx.HTTPError as error:
                pending.detail = type(error).__name__
        return pending.outcome

    async def _post(
        self, pending: Pending, path: str, body: Mapping[str, Any], *, timeout_s: float = CALL_S
    ) -> dict[str, Any] | None:
        """The answer of a 200. A request that never left, or was refused for good, has failed; every other one that is not
        answered with 200 may still have happened."""
        try:
            response = await self.user.http.post(path, json=body, timeout=httpx.Timeout(timeout_s, connect=2.0))
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            pending.outcome, pending.detail = Outcome.FAIL, type(error).__name__
            return None
        except httpx.HTTPError as error:
            pending.detail = type(error).__name__
            return None
        self._history.received(self.user.id, response.content)
        pending.status = response.status_code
        pending.retry_after = "retry-after" in response.headers
        if response.status_code == 200:
            pending.outcome = Outcome.OK
            answer: dict[str, Any] = response.json()
            return answer
        pending.detail = response.text[:120]
        if response.status_code < 500:
            pending.outcome = Outcome.FAIL
        return None


def _check_echo(pending: Pending, answer: dict[str, Any] | None, asked: Asked) -> None:
    """An acknowledgement is one only if it is about this prompt."""
    if answer is not None and (answer["prompt"]["id"], answer["prompt"]["prompt"]) != (asked.id, asked.text):
        pending.outcome, pending.detail = Outcome.INFO, "the answer was about another prompt"


def _stream_of(thread: str) -> str:
    return f"/prompt-svc/prompts/{thread}/responses/subscribe"


class Reader:
    """Follows one thread through every cut, resuming where it was."""

    def __init__(self, name: str, user: User, thread: str, history: History, *, from_beginning: bool) -> None:
        """
        Args:
            from_beginning: ask for everything from the thread's start; else take what a new subscriber gets.
        """
        self.name = name
        self.thread = thread
        self.last_id = BEGINNING if from_beginning else ""
        self._user = user
        self._history = history
        #: Cuts itself after so many events of a connection, once.
        self.cut_after: int | None = None
        self.news = asyncio.Event()

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            with suppress(httpx.HTTPError):
                async for event_id, data in self._connection():
                    self._history.received(self._user.id, data)
                    self._history.events.append(
                        Event(
                            reader=self.name,
                            user=self._user.id,
                            thread=self.thread,
                            id=event_id,
                            data=data,
                            at=time.monotonic(),
                        )
                    )
                    self.last_id = event_id
                    self.news.set()
            await asyncio.sleep(PAUSE_S)

    async def wait_for(self, last_id: str) -> None:
        """Wait until the reader has come to this event or beyond."""
        while _position(self.last_id) < _position(last_id):
            self.news.clear()
            await self.news.wait()

    async def _connection(self) -> AsyncIterator[tuple[str, bytes]]:
        headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
        timeout = httpx.Timeout(SILENCE_S, connect=2.0)
        async with self._user.http.stream("GET", _stream_of(self.thread), headers=headers, timeout=timeout) as response:
            if response.status_code != 200:
                return
            self._history.connections.append(
                Connection(
                    reader=self.name,
                    user=self._user.id,
                    thread=self.thread,
                    resumed_from=self.last_id,
                    opened=time.monotonic(),
                )
            )
            rest, count = b"", 0
            # By bytes: httpx's own line splitting would break lines at characters that an answer may hold.
            async for part in response.aiter_raw():
                *frames, rest = (rest + part).split(b"\n\n")
                for frame in frames:
                    if not frame.startswith(b"id: "):
                        continue
                    head, _, data = frame.partition(b"\n")
                    count += 1
                    yield head.removeprefix(b"id: ").decode(), data.removeprefix(b"data: ")
                    if self.cut_after is not None and count >= self.cut_after:
                        self.cut_after = None
                        return


def _position(event_id: str) -> tuple[int, int]:
    place, _, number = (event_id or BEGINNING).partition("-")
    return int(place), int(number)


def is_end(data: bytes) -> bool:
    return json.loads(data)["type"] in ("done", "error", "canceled")
