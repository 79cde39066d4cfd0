"""Prompt Svc from inside a Ray job, task or actor, without HTTP or a token: ``PromptHandle``; for asyncio ``AsyncPromptHandle``.

A thin layer over ``serve.get_app_handle("prompt-svc")`` (docs/handles.md). What it adds: Python objects in place of JSON values,
errors as exceptions (``clients.errors``), and calls that survive the death of the replica that was answering them. A submission
can be repeated because it always has an id, and a stream goes on behind the last entry that was read.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Any, TypeAlias

from clients.answer import Answer, Entry
from clients.errors import NotDeployed, PromptSvcError, ServiceFailed, Unavailable, from_answer
from clients.patience import Patience

#: The prompt alone, or the body of POST /prompt-svc/prompt (docs/http-api.md).
Body: TypeAlias = str | Mapping[str, Any]

APP = "prompt-svc"
#: How long one call waits for the end of a prompt, seconds; then another one does. A replica that stops need not wait for it.
_SLICE_S = 30.0
#: How long calls are repeated while nothing answers, seconds: a rolling update or a store that restarts takes less.
PATIENCE_S = 60.0


class PromptHandle:
    """Calls that block. Not for use inside asyncio. It pickles: hand it to tasks and actors as it is."""

    def __init__(
        self, app: str = APP, *, user: str | None = None, patience_s: float = PATIENCE_S, handle: Any = None
    ) -> None:
        """
        Args:
            app: name of the application in serve_config.yaml.
            user: id or slug of the user to act for; None: the service's own account, ``service-job``.
            patience_s: how long to repeat a call that nothing answers, seconds.
            handle: of the application, if you have it already.

        Raises:
            NotDeployed: there is no such application on this cluster, or ``ray.init()`` has not been called.
        """
        self._handle = app_handle(app) if handle is None else handle
        self._user = user
        self._patience_s = patience_s

    def submit(self, body: Body) -> Answer:
        """Have a prompt accepted; when this returns, it is durable.

        Raises:
            Refused: with the field that is wrong, if one is; nothing was stored.
            NotAllowed: the user lacks the permission.
            Unavailable: nothing answered for as long as ``patience_s``. It may have been accepted: with an id of your own
                in ``body`` submit it again to find out.
        """
        return Answer.of(self._call("submit", with_id(body)))

    def wait(self, prompt_id: str, timeout_s: float | None = None) -> Answer:
        """The prompt once it has ended, or as it is when ``timeout_s`` seconds are over; it goes on either way. 0 only looks.

        Raises:
            NotFound: the user has no such prompt, or it was erased meanwhile.
            Unavailable: nothing answers.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            answer = Answer.of(self._call("wait", prompt_id, timeout_s=_slice(until)))
            if answer.is_final or (until is not None and time.monotonic() >= until):
                return answer

    def ask(self, body: Body, timeout_s: float | None = None) -> Answer:
        """``submit`` and ``wait``."""
        return self.wait(self.submit(body).prompt_id, timeout_s)

    def cancel(self, prompt_id: str) -> str:
        """Cancel a prompt that has not ended. Returns the final status it has now, which may be ``completed``.

        Raises:
            NotFound: the user has no such prompt.
            Unavailable: nothing answers.
        """
        return str(self._call("cancel", prompt_id).get("status"))

    def stream(self, prompt_id: str, *, after: int = 0) -> Iterator[Entry]:
        """The answer as it is written, to its end; from its beginning whenever it is called.

        Args:
            after: number of the last entry you have seen.

        Raises:
            NotFound: the user has no such prompt, or it was erased meanwhile.
            Unavailable: nothing answers.
        """
        patience = Patience(self._patience_s)
        while True:
            responses = self._handle.options(stream=True).stream.remote(prompt_id, user=self._user, after=after)
            is_read = False
            try:
                for said in responses:
                    entry = Entry.of(_checked(said))
                    after = entry.number
                    patience.succeeded()
                    yield entry
                is_read = True
                return
            except _repeatable() as error:
                is_read = True
                pause = patience.pause_after(_unavailable(error))
            finally:
                if not is_read:
                    responses.cancel()
            time.sleep(pause)

    def _call(self, method: str, *arguments: Any, **options: Any) -> Mapping[str, Any]:
        patience = Patience(self._patience_s)
        while True:
            response = getattr(self._handle, method).remote(*arguments, user=self._user, **options)
            try:
                return _checked(response.result())
            except _repeatable() as error:
                pause = patience.pause_after(_unavailable(error))
            except KeyboardInterrupt:
                response.cancel()
                raise
            time.sleep(pause)


class AsyncPromptHandle:
    """The same for asyncio, in an async actor, a Serve deployment or ``asyncio.run``. It pickles."""

    def __init__(
        self, app: str = APP, *, user: str | None = None, patience_s: float = PATIENCE_S, handle: Any = None
    ) -> None:
        """As ``PromptHandle``; but the application is looked up with the first call, which raises NotDeployed."""
        self._app = app
        self._handle = handle
        self._user = user
        self._patience_s = patience_s

    async def submit(self, body: Body) -> Answer:
        """See ``PromptHandle.submit``."""
        return Answer.of(await self._call("submit", with_id(body)))

    async def wait(self, prompt_id: str, timeout_s: float | None = None) -> Answer:
        """See ``PromptHandle.wait``."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            answer = Answer.of(await self._call("wait", prompt_id, timeout_s=_slice(until)))
            if answer.is_final or (until is not None and time.monotonic() >= until):
                return answer

    async def ask(self, body: Body, timeout_s: float | None = None) -> Answer:
        """``submit`` and ``wait``."""
        return await self.wait((await self.submit(body)).prompt_id, timeout_s)

    async def cancel(self, prompt_id: str) -> str:
        """See ``PromptHandle.cancel``."""
        return str((await self._call("cancel", prompt_id)).get("status"))

    async def stream(self, prompt_id: str, *, after: int = 0) -> AsyncGenerator[Entry, None]:
        """See ``PromptHandle.stream``. Leave it early under ``contextlib.aclosing``, so that the service notices at once."""
        patience = Patience(self._patience_s)
        handle = await self._connected()
        while True:
            responses = handle.options(stream=True).stream.remote(prompt_id, user=self._user, after=after)
            is_read = False
            try:
                async for said in responses:
                    entry = Entry.of(_checked(said))
                    after = entry.number
                    patience.succeeded()
                    yield entry
                is_read = True
                return
            except _repeatable() as error:
                is_read = True
                pause = patience.pause_after(_unavailable(error))
            finally:
                if not is_read:
                    responses.cancel()
            await asyncio.sleep(pause)

    async def _call(self, method: str, *arguments: Any, **options: Any) -> Mapping[str, Any]:
        patience = Patience(self._patience_s)
        handle = await self._connected()
        while True:
            response = getattr(handle, method).remote(*arguments, user=self._user, **options)
            try:
                return _checked(await response)
            except _repeatable() as error:
                pause = patience.pause_after(_unavailable(error))
            except asyncio.CancelledError:
                response.cancel()
                raise
            await asyncio.sleep(pause)

    async def _connected(self) -> Any:
        if self._handle is None:
            # It asks the controller and blocks.
            self._handle = await asyncio.to_thread(app_handle, self._app)
        return self._handle


def app_handle(app: str) -> Any:
    """The handle of an application on the Ray that this process is connected to. Raises NotDeployed."""
    import ray
    from ray import serve
    from ray.serve.exceptions import RayServeException

    # Serve would start a Ray of its own otherwise.
    if not ray.is_initialized():
        raise NotDeployed(
            "this process is not connected to Ray: call ray.init() first, in a Ray job or with RAY_ADDRESS set"
        )
    try:
        return serve.get_app_handle(app)
    except RayServeException as error:
        raise NotDeployed(f"the application {app!r} is not on this Ray cluster: {_first_line(error)}") from None


def with_id(body: Body) -> dict[str, Any]:
    """The body with an id, one of its own unless it has one: what has an id can be submitted again."""
    given = {"prompt": body} if isinstance(body, str) else dict(body)
    if not any(str(name).lower() == "id" and value for name, value in given.items()):
        given["id"] = f"prom-{uuid.uuid4().hex}"
    return given


def _slice(until: float | None) -> float:
    return _SLICE_S if until is None else max(0.0, min(_SLICE_S, until - time.monotonic()))


def _checked(said: Any) -> Mapping[str, Any]:
    """What the service said, unless it is an error."""
    if not isinstance(said, dict):
        raise ServiceFailed(f"the service answered with a {type(said).__name__}; is it another application or version?")
    if isinstance(said.get("error"), dict):
        raise from_answer(said["error"])
    return said


def _repeatable() -> tuple[type[Exception], ...]:
    """What a call fails with that may go well the next time: what Ray raises to the caller of a handle, and ours."""
    import grpc  # type: ignore[import-untyped]
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    return Unavailable, RayError, RayServeException, grpc.RpcError


def _unavailable(error: BaseException) -> Unavailable:
    """The error of a call that may be repeated. Raises ServiceFailed for one that may not."""
    from ray.exceptions import RayActorError, RayTaskError, TaskCancelledError

    if isinstance(error, Unavailable):
        return error
    if isinstance(error, RayTaskError) and not isinstance(error, RayActorError | TaskCancelledError):
        # Ours never raise: another version of the service, or another application. Its text is a whole traceback.
        raise ServiceFailed(f"the service failed with {type(error.cause).__name__}; is it another version?") from None
    retry_after_s = getattr(error, "retry_after_s", None)
    return Unavailable(f"no ingress replica answers ({type(error).__name__})", retry_after_s=retry_after_s)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


__all__ = ["AsyncPromptHandle", "PromptHandle", "PromptSvcError"]
