"""As much of Serve's ``DeploymentHandle`` as the client uses, around an object in this process."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any


class FakeHandle:
    """Calls the methods of ``target``: functions that return or raise, coroutines, generators, async generators."""

    def __init__(self, target: Any, *, method: str = "", stream: bool = False, log: FakeCalls | None = None) -> None:
        self._target = target
        self._method = method
        self._stream = stream
        self.log = log or FakeCalls()

    def options(self, *, stream: bool = False) -> FakeHandle:
        return FakeHandle(self._target, stream=stream, log=self.log)

    def __getattr__(self, name: str) -> FakeHandle:
        if name.startswith("_"):
            raise AttributeError(name)
        return FakeHandle(self._target, method=name, stream=self._stream, log=self.log)

    def remote(self, *arguments: Any, **options: Any) -> Any:
        self.log.made.append((self._method, arguments, options))
        call = getattr(self._target, self._method)
        return (FakeGenerator if self._stream else FakeResponse)(self.log, lambda: call(*arguments, **options))


class FakeCalls:
    def __init__(self) -> None:
        #: Method, arguments and options of every call.
        self.made: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        #: How many were cancelled by the caller.
        self.cancelled = 0


class _Cancellable:
    def __init__(self, log: FakeCalls, call: Any) -> None:
        self._log = log
        self._call = call

    def cancel(self) -> None:
        self._log.cancelled += 1


class FakeResponse(_Cancellable):
    def result(self) -> Any:
        return self._call()

    def __await__(self) -> Generator[Any, None, Any]:
        return self._result().__await__()

    async def _result(self) -> Any:
        await asyncio.sleep(0)
        found = self._call()
        return await found if inspect.isawaitable(found) else found


class FakeGenerator(_Cancellable):
    def __iter__(self) -> Iterator[Any]:
        return iter(self._call())

    async def __aiter__(self) -> AsyncIterator[Any]:
        items = self._call()
        if inspect.isasyncgen(items):
            async for item in items:
                yield item
        else:
            for item in items:
                yield item
