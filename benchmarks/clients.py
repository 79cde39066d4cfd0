"""The benchmark's HTTP client: one asyncio process, aiohttp, the same code around every system.

It shares the machine's cores with what it measures, so every figure holds its cost too.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import aiohttp
import orjson

from benchmarks.workload import MAX_TOKENS
from pipeline.ids import new_id


class RequestFailed(Exception):
    """The system did not answer as it should."""


@dataclass(kw_only=True, slots=True)
class Answer:
    """One streamed answer. Times are of time.perf_counter()."""

    asked: float
    first: float = 0.0
    last: float = 0.0
    chunks: int = 0
    texts: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        self.last = time.perf_counter()
        if not self.chunks:
            self.first = self.last
        self.chunks += 1
        self.texts.append(text)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def ttft_ms(self) -> float:
        return (self.first - self.asked) * 1000


#: Asks one prompt at temperature 0 and reads the streamed answer to its end.
Ask = Callable[[str, int], Awaitable[Answer]]


class Client(Protocol):
    """How one kind of API is used."""

    async def log_in(self) -> None: ...

    def conversation(self) -> AbstractAsyncContextManager[Ask]:
        """Everything a user interface has open before its user asks: prompt and most tokens of the answer in, answer out."""

    async def clear(self) -> None:
        """Leave no prompt behind."""


def session(url: str) -> aiohttp.ClientSession:
    """Connections stay open, as many as are wanted, and nothing times out but a dead system."""
    return aiohttp.ClientSession(
        base_url=url,
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=300),
        timeout=aiohttp.ClientTimeout(total=None, sock_read=120),
    )


class OpenAIClient:
    """POST /v1/chat/completions with ``stream``."""

    def __init__(self, http: aiohttp.ClientSession, model: str) -> None:
        self._http = http
        self._model = model
        self._auth: dict[str, str] = {}

    async def log_in(self) -> None:
        """These servers know no users."""

    @contextlib.asynccontextmanager
    async def conversation(self) -> AsyncIterator[Ask]:
        yield self._ask

    async def _ask(self, prompt: str, max_tokens: int) -> Answer:
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": max_tokens,
            "temperature": 0,
            "stream": True,
        }
        answer = Answer(asked=time.perf_counter())
        async with self._http.post("/v1/chat/completions", json=body, headers=self._auth) as response:
            await _check(response)
            async for data in _events(response):
                if data == b"[DONE]":
                    return answer
                chunk = orjson.loads(data)
                if "error" in chunk:
                    raise RequestFailed(str(chunk["error"])[:200])
                # The first chunk only names the role.
                if chunk["choices"] and (text := chunk["choices"][0]["delta"].get("content")):
                    answer.add(text)
        raise RequestFailed("the stream ended early")

    async def clear(self) -> None:
        """Nothing is kept."""


class OurOpenAIClient(OpenAIClient):
    """The same request to the OpenAI door of Prompt Svc, with an API key."""

    def __init__(self, http: aiohttp.ClientSession, model: str, password: str) -> None:
        super().__init__(http, model)
        self._password = password

    async def log_in(self) -> None:
        auth = {"Authorization": f"Bearer {await log_in(self._http, self._password)}"}
        async with self._http.post("/user-svc/api-key", json={}, headers=auth) as response:
            await _check(response)
            self._auth = {"Authorization": f"Bearer {orjson.loads(await response.read())['key']}"}


async def log_in(http: aiohttp.ClientSession, password: str) -> str:
    """The admin's access token."""
    body = {"appHost": "localhost", "slug": "1backend", "password": password}
    async with http.post("/user-svc/login", json=body) as response:
        await _check(response)
        return str(orjson.loads(await response.read())["token"]["token"])


class PromptSvcClient:
    """Subscribe to a new thread, then POST the prompt to it: the order in which no chunk can be missed."""

    def __init__(self, http: aiohttp.ClientSession, password: str) -> None:
        self._http = http
        self._password = password
        self._token = ""
        self._sent: list[str] = []

    async def log_in(self) -> None:
        self._token = await log_in(self._http, self._password)

    @contextlib.asynccontextmanager
    async def conversation(self) -> AsyncIterator[Ask]:
        thread = new_id("thr")
        async with self.subscribed(thread) as events:

            async def ask(prompt: str, max_tokens: int) -> Answer:
                answer = Answer(asked=time.perf_counter())
                submission = asyncio.ensure_future(self.submit(prompt, thread=thread, max_tokens=max_tokens))
                try:
                    async for data in events:
                        chunk = orjson.loads(data)
                        if chunk["type"] not in {"progress", "done"}:
                            raise RequestFailed(f"the answer ended as {chunk['type']}")
                        if text := chunk.get("text"):
                            answer.add(text)
                        if chunk["type"] == "done":
                            return answer
                    raise RequestFailed("the stream ended early")
                finally:
                    await submission

            yield ask

    @contextlib.asynccontextmanager
    async def subscribed(self, thread: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """The data of a thread's events, once the server has begun to listen."""
        async with self._http.get(f"/prompt-svc/prompts/{thread}/responses/subscribe", headers=self._auth) as response:
            await _check(response)
            await response.content.readuntil(b"\n\n")  # its first comment
            # The comment goes out before the subscription reaches the store; a user does not submit that fast.
            await asyncio.sleep(0.05)
            yield _events(response)

    async def submit(self, prompt: str, *, thread: str = "", max_tokens: int = MAX_TOKENS) -> str:
        """POST the prompt; returns its id once it is durable."""
        prompt_id = new_id("prom")
        self._sent.append(prompt_id)
        body: dict[str, Any] = {
            "id": prompt_id,
            "prompt": prompt,
            "engineParameters": {"vllm": {"max_tokens": max_tokens, "temperature": 0}},
        }
        if thread:
            body["threadId"] = thread
        async with self._http.post("/prompt-svc/prompt", json=body, headers=self._auth) as response:
            await _check(response)
            await response.read()
        return prompt_id

    async def clear(self) -> None:
        """Cancel what waits or runs, newest first, so that nothing is started meanwhile."""
        sent, self._sent = self._sent[::-1], []
        limit = asyncio.Semaphore(16)

        async def delete(prompt_id: str) -> None:
            async with limit, self._http.delete(f"/prompt-svc/prompt/{prompt_id}", headers=self._auth) as response:
                await _check(response)

        await asyncio.gather(*(delete(prompt_id) for prompt_id in sent))

    @property
    def _auth(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"}


async def _check(response: aiohttp.ClientResponse) -> None:
    if response.status != 200:
        raise RequestFailed(f"{response.method} {response.url.path}: {response.status} {(await response.text())[:200]}")


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The ``data:`` of every event of an SSE stream, as it comes."""
    buffer = b""
    async for piece in response.content.iter_any():
        buffer += piece
        *frames, buffer = buffer.split(b"\n\n")
        for frame in frames:
            for line in frame.split(b"\n"):
                if line.startswith(b"data:"):
                    yield line[5:].strip()
