"""A Prompt Svc as ``prompt-chat`` sees it: a function that answers requests, and subscriptions that break off on demand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx

TOKEN = "aaa.bbb.ccc"
Step = bytes | BaseException | Callable[[], object]


class Steps(httpx.SyncByteStream):
    """A body that comes in steps: bytes are sent, an exception is raised, a function is called (and sent what it gives)."""

    def __init__(self, *steps: Step) -> None:
        self._steps = steps
        self.is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        for step in self._steps:
            if isinstance(step, BaseException):
                raise step
            sent = step() if callable(step) else step
            if isinstance(sent, bytes):
                yield sent

    def close(self) -> None:
        self.is_closed = True


def event(event_id: str, **data: Any) -> bytes:
    return f"id: {event_id}\ndata: {json.dumps(data)}\n\n".encode()


class FakeService:
    """Takes prompts, and answers subscriptions with what the test has put into ``streams``, one after another."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        #: What subscriptions give; ``PROMPT`` in it is the id of the last prompt.
        self.streams: list[list[Step] | int] = []
        #: Replies in place of the usual ones, by path or its beginning; each is used once.
        self.replies: list[tuple[str, httpx.Response | Exception]] = []
        self.prompt: dict[str, Any] = {"status": "running"}
        self.token = TOKEN
        #: Of so many prompts nobody hears whether they arrived.
        self.broken_submissions = 0

    @property
    def paths(self) -> list[str]:
        return [f"{request.method} {request.url.path}" for request in self.requests]

    @property
    def submitted(self) -> list[dict[str, Any]]:
        return [json.loads(r.content) for r in self.requests if r.url.path == "/prompt-svc/prompt"]

    @property
    def cursors(self) -> list[str | None]:
        """What subscriptions asked to go on from."""
        return [r.headers.get("last-event-id") for r in self.requests if r.url.path.endswith("/subscribe")]

    def client(self) -> httpx.Client:
        return httpx.Client(base_url="http://service", transport=httpx.MockTransport(self.handle))

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        path = request.url.path
        for i, (begins, reply) in enumerate(self.replies):
            if path.startswith(begins):
                del self.replies[i]
                if isinstance(reply, Exception):
                    raise reply
                return reply
        if path == "/auth/callback/debug":
            pair = {"access_token": {"access_token": self.token}, "refresh_token": {"access_token": "refresh"}}
            return httpx.Response(200, json=pair)
        if path == "/auth/refresh":
            return httpx.Response(200, json={"access_token": self.token, "token_type": "bearer"})
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return httpx.Response(401, json={"error": "Unauthorized"})
        return self._allowed(request, path)

    def _allowed(self, request: httpx.Request, path: str) -> httpx.Response:
        if path == "/user-svc/self":
            return httpx.Response(200, json={"user": {"slug": "alice"}})
        if path == "/chat-svc/thread":
            return httpx.Response(200, json={"thread": {"id": "thr-1"}})
        if path.endswith("/messages"):
            page = {"messages": [{"text": "Hi", "userId": "usr-1"}, {"text": "Hello"}]}
            return httpx.Response(200, json=page)
        if path == "/prompt-svc/prompt":
            if self.broken_submissions:
                self.broken_submissions -= 1
                raise httpx.ReadTimeout("timed out")
            return httpx.Response(200, json={"prompt": {"id": self.submitted[-1]["id"]}, "queuePosition": 1})
        if path.startswith("/prompt-svc/prompt/") and request.method == "GET":
            answer = {"responseMessage": {"text": "the whole answer"}} if self.prompt["status"] == "completed" else {}
            return httpx.Response(200, json={"prompt": self.prompt, **answer})
        if path.endswith("/subscribe"):
            steps = self.streams.pop(0)
            if isinstance(steps, int):
                return httpx.Response(steps, json={"error": "busy"})
            return httpx.Response(200, stream=Steps(*(self._named(step) for step in steps)))
        return httpx.Response(200, json={})

    def _named(self, step: Step) -> Step:
        """With the prompt's id, which is known once the prompt is there: after the stream has begun."""
        if not isinstance(step, bytes):
            return step
        return lambda: step.replace(b"PROMPT", self.submitted[-1]["id"].encode())
