"""The Lua scripts, loaded by name. Every transition of a prompt is one of them (DESIGN §2)."""

from __future__ import annotations

import asyncio
import contextvars
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import NoScriptError

from pipeline.store.connection import DEMOTED
from pipeline.store.keys import LAYOUT, lua_prelude

NAMES = (
    "accept",
    "adopt",
    "admit",
    "append",
    "cancel",
    "claim",
    "close_departed",
    "confirm_poll",
    "delete_message",
    "delete_thread",
    "count",
    "create_api_key",
    "drop_enrolls",
    "erase",
    "fail",
    "file_begin",
    "file_drop",
    "file_keep",
    "finish",
    "follow",
    "grant",
    "hand_back",
    "heartbeat",
    "issue_ticket",
    "keep",
    "keep_enrolls",
    "keep_entries",
    "keep_rendered",
    "lose",
    "measure",
    "merge",
    "move",
    "oa_add_message",
    "oa_add_report",
    "oa_begin_delete",
    "oa_cancel_waiting",
    "oa_change_chat",
    "oa_create_chat",
    "oa_delete_messages",
    "oa_hide_chats",
    "oa_read_chain",
    "oa_set_on_answer",
    "open_insight",
    "poll_job",
    "position",
    "redeem_ticket",
    "register",
    "retain",
    "revoke_tokens",
    "revoke_api_key",
    "save_template",
    "save_message",
    "save_thread",
    "skip_output",
    "sweep",
    "unregister",
    "use_api_key",
    "vouch",
)


@cache
def source(name: str) -> str:
    """The text of a script as the store gets it: with the functions of the library and the key names that it uses, and no others.
    The store builds all of them anew for every call; the whole library would cost more than most scripts."""
    folder = files("pipeline.store") / "lua"
    script = (folder / f"{name}.lua").read_text()
    definitions = _definitions((folder / "_lib.lua").read_text())
    used: set[str] = set()
    unread = [script]
    while unread:
        words = set(_WORD.findall(unread.pop()))
        for found in words & definitions.keys() - used:
            used.add(found)
            unread.append(definitions[found])
    body = "\n\n".join([text for found, text in definitions.items() if found in used] + [script])
    # A script that is told the name of a key may be told any.
    return lua_prelude(LAYOUT if "K[" in body else set(_KEY.findall(body))) + body


def _definitions(library: str) -> dict[str, str]:
    """The library's functions and constants, by name, in their order."""
    parts = _BEFORE_DEFINITION.split(library)
    return {match[1]: part for part in parts if (match := _DEFINITION.search(part))}


#: Most calls in one round trip: each waits for the replies of all.
MOST_TOGETHER = 64

_WORD = re.compile(r"[A-Za-z_]+")
_KEY = re.compile(r"\bK\.(\w+)")
_DEFINITION = re.compile(r"^local (?:function )?(\w+)", re.MULTILINE)
_BEFORE_DEFINITION = re.compile(r"\n\n(?=(?:--[^\n]*\n)*local )")

_Call = tuple[str, Sequence[str | bytes | int | float], "asyncio.Future[Any]"]


class Scripts:
    """The scripts bound to one client and one namespace.

    Calls of one turn of the event loop share a connection and a round trip: under load that is a third of the client's work
    and of the store's reads. They stay calls of their own: each is atomic, fails alone, and a cancelled one harms no other.
    """

    def __init__(self, client: Redis, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self._scripts: dict[str, AsyncScript] = {name: client.register_script(source(name)) for name in NAMES}
        self._waiting: list[_Call] = []
        self._sending: set[asyncio.Task[None]] = set()
        self._under_way = 0

    async def run(self, name: str, *arguments: str | bytes | int | float) -> Any:
        """Run a script; it sees the arguments from ``ARGV[2]`` on."""
        if not self._under_way:
            # Nobody to share with.
            self._under_way += 1
            try:
                return await self._call(name, arguments)
            finally:
                self._under_way -= 1
        loop = asyncio.get_running_loop()
        if not self._waiting:
            # A context of its own: what is begun inside a request of Ray's would be cancelled with it (ray#52476).
            loop.call_soon(self._send_waiting, context=contextvars.Context())
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((name, arguments, future))
        return await future

    def _send_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), MOST_TOGETHER):
            task = asyncio.get_running_loop().create_task(self._send(waiting[start : start + MOST_TOGETHER]))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _send(self, calls: list[_Call]) -> None:
        calls = [call for call in calls if not call[2].done()]  # cancelled already
        self._under_way += 1
        try:
            replies = await self._replies(calls)
        except BaseException as error:
            for *_, future in calls:
                if not future.done():
                    if isinstance(error, asyncio.CancelledError):
                        future.cancel()
                    else:
                        future.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        finally:
            self._under_way -= 1
        for (*_, future), reply in zip(calls, replies, strict=True):
            if future.done():
                continue
            if isinstance(reply, Exception):
                future.set_exception(reply)
            else:
                future.set_result(reply)

    async def _replies(self, calls: list[_Call]) -> list[Any]:
        if len(calls) == 1:
            ((name, arguments, _),) = calls
            return [await self._call(name, arguments)]
        pipe = self._client.pipeline(transaction=False)
        for name, arguments, _ in calls:
            pipe.evalsha(self._scripts[name].sha, 0, self._namespace, *arguments)
        replies: list[Any] = await pipe.execute(raise_on_error=False)
        is_primary = True
        for i, reply in enumerate(replies):
            if isinstance(reply, NoScriptError):
                # The store has restarted. Loads it as well.
                replies[i] = await self._call(*calls[i][:2])
            elif isinstance(reply, DEMOTED) and is_primary:
                # A pipeline keeps its connection; a call of its own connects anew. Once that has led nowhere, it will not for the
                # others either, and their callers wait.
                try:
                    replies[i] = await self._call(*calls[i][:2])
                except DEMOTED as error:
                    replies[i], is_primary = error, False
        return replies

    async def _call(self, name: str, arguments: Sequence[str | bytes | int | float]) -> Any:
        return await self._scripts[name](args=[self._namespace, *arguments])
