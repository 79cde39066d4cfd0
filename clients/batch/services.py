"""The two ways to the service: a Ray handle, or HTTP with a token. Either runs a prompt to its end, whatever dies in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

import httpx
import orjson

from clients.answer import Answer
from clients.errors import NotFound, ServiceFailed, Unavailable, from_status
from clients.handle import AsyncPromptHandle
from clients.http_errors import error_text, is_away
from clients.patience import Patience

#: Seconds that a response may take: longer than the service waits for a prompt (``sync_wait_s``).
_READ_S = 900.0
#: A response that was this long in coming and then broke off says nothing against the service, seconds.
_LONG_S = 5.0
#: How long a run that begins looks for the service, seconds: whoever mistyped the address should know soon.
_CHECK_S = 10.0
#: Nobody has a prompt of this id.
_NOBODYS = "batch:is-anybody-there"


class BatchService(Protocol):
    """What a batch needs of the service. Both methods raise what is in ``clients.errors``."""

    async def check(self) -> None:
        """Returns if the service is there and lets this caller in."""

    async def run(self, body: Mapping[str, Any]) -> Answer:
        """Submit a prompt that has an id, once or again, and wait for its end."""

    async def close(self) -> None: ...


class HandleService:
    """Through a handle: inside a Ray job, or connected to its Ray."""

    def __init__(self, handle: AsyncPromptHandle) -> None:
        self._handle = handle

    async def check(self) -> None:
        try:
            await self._handle.wait(_NOBODYS, 0)
        except NotFound:
            return

    async def run(self, body: Mapping[str, Any]) -> Answer:
        return await self._handle.ask(body)

    async def close(self) -> None:
        """Nothing is open."""


class HttpService:
    """By HTTP, as the user whose token it is."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        connections: int,
        patience_s: float,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """
        Args:
            connections: most that are open at a time.
            patience_s: how long to ask again while the service is away, seconds.
            transport: None: the network.
        """
        self._client = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            timeout=httpx.Timeout(10, read=_READ_S, pool=None),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            transport=transport,
            # A proxy is for the way out; this machine is not reached through one.
            trust_env=urlsplit(url).hostname not in ("127.0.0.1", "localhost", "::1"),
        )
        self._patience_s = patience_s

    async def check(self) -> None:
        try:
            await self._call("GET", f"/prompt-svc/prompt/{quote(_NOBODYS, safe='')}", patience_s=_CHECK_S)
        except NotFound:
            return

    async def run(self, body: Mapping[str, Any]) -> Answer:
        # A sync submission of an id that was submitted before waits for that prompt.
        content = orjson.dumps({**body, "sync": True})
        while True:
            answer = Answer.of(await self._call("POST", "/prompt-svc/prompt", content))
            if answer.is_final:
                return answer

    async def close(self) -> None:
        await self._client.aclose()

    async def _call(
        self, method: str, path: str, content: bytes | None = None, *, patience_s: float | None = None
    ) -> Mapping[str, Any]:
        patience = Patience(self._patience_s if patience_s is None else min(patience_s, self._patience_s))
        while True:
            began = time.monotonic()
            try:
                return _checked(await self._client.request(method, path, content=content))
            except httpx.HTTPError as error:
                failure = Unavailable(f"{self._client.base_url}: {type(error).__name__}")
            except Unavailable as error:
                failure = error
            if failure.status == 429 or time.monotonic() - began > _LONG_S:
                # A rate limit is no fault, and neither is a proxy in between that does not wait as long as we do.
                patience.succeeded()
            await asyncio.sleep(patience.pause_after(failure))


def _checked(response: httpx.Response) -> Mapping[str, Any]:
    """The JSON object of a successful response. Raises PromptSvcError."""
    if response.status_code != 200:
        if response.status_code == 404 and is_away(response):
            raise Unavailable(f"nothing is served at this address: {error_text(response)}", status=404)
        seconds = response.headers.get("Retry-After", "")
        raise from_status(
            response.status_code,
            error_text(response),
            retry_after_s=float(seconds) if seconds.isdecimal() else None,
        )
    try:
        said = response.json()
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise ServiceFailed("the answer is not JSON; is it the right address?")
    return said
