"""The Lua scripts, loaded by name. Every transition of a prompt is one of them (DESIGN §2)."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from pipeline.store.keys import lua_prelude

NAMES = (
    "accept",
    "append",
    "cancel",
    "claim",
    "erase",
    "fail",
    "finish",
    "grant",
    "hand_back",
    "heartbeat",
    "lose",
    "register",
    "sweep",
    "unregister",
)


@cache
def source(name: str) -> str:
    """Key names, shared functions and the script itself, as one text."""
    folder = files("pipeline.store") / "lua"
    return lua_prelude() + (folder / "_lib.lua").read_text() + (folder / f"{name}.lua").read_text()


class Scripts:
    """The scripts bound to one client and one namespace."""

    def __init__(self, client: Redis, namespace: str) -> None:
        self._namespace = namespace
        self._scripts: dict[str, AsyncScript] = {name: client.register_script(source(name)) for name in NAMES}

    async def run(self, name: str, *arguments: str | bytes | int | float) -> Any:
        """Run a script; it sees the arguments from ``ARGV[2]`` on."""
        return await self._scripts[name](args=[self._namespace, *arguments])
