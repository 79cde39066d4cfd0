"""Deliberately broken builds: copies of the source tree with one promise taken out, to see whether the checker notices."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.service import ROOT


@dataclass(frozen=True, kw_only=True, slots=True)
class Patch:
    """A replacement of text that occurs exactly once in a file."""

    file: str
    old: str
    new: str


FENCE_OFF = (
    Patch(file="pipeline/store/lua/_lib.lua", old="if p.fence ~= tonumber(fence) then", new="if false then"),
    # The heartbeat would still tell the old holder, which is a fence too.
    Patch(file="pipeline/store/lua/heartbeat.lua", old="if p and p.holder == replica then", new="if p then"),
)

ACKNOWLEDGE_BEFORE_WRITE = (
    Patch(
        file="deployments/ingress/service.py",
        old="""        with translated_errors():
            return await self._prompts.accept(new)
""",
        new="""        async def later() -> None:
            await asyncio.sleep(0.5)
            await self._prompts.accept(new)

        self._later = getattr(self, "_later", [])
        self._later.append(asyncio.get_running_loop().create_task(later()))
        record = {**new.to_record(), "status": "scheduled"}
        raw = {key.encode(): v if isinstance(v, bytes) else str(v).encode() for key, v in record.items()}
        return Accepted(prompt=Prompt.from_record(raw), is_new=True)
""",
    ),
)

LEASE_NEVER_EXPIRES = (
    Patch(
        file="pipeline/store/lua/sweep.lua",
        old="local expired = redis.call('ZRANGEBYSCORE', K.leases(model), '-inf', int(now), 'LIMIT', 0, most)",
        new="local expired = {}",
    ),
)


def build(folder: Path, patches: tuple[Patch, ...] = ()) -> Path:
    """A copy of the source tree with the patches in.

    Raises:
        ValueError: the code has changed, and a patch no longer breaks what it is meant to break.
    """
    for name in ("deployments", "pipeline", "clients"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "serve_config.yaml", folder)
    for patch in patches:
        file = folder / patch.file
        text = file.read_text(encoding="utf-8")
        if text.count(patch.old) != 1:
            raise ValueError(f"{patch.file}: the text to replace occurs {text.count(patch.old)} times: {patch.old}")
        file.write_text(text.replace(patch.old, patch.new), encoding="utf-8")
    return folder
