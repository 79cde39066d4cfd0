"""Runs a block of the document's commands in a shell, as a user of its own, and keeps what every command did."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.service import ROOT

TOOLS = Path(__file__).parent / "document_tools"
COMMANDS = Path(__file__).parent / "document_commands.sh"
#: A block's shell is ended after this long, seconds.
LONGEST_S = 280

#: Before a block: an account, the token that the document calls $TOKEN, and what the block takes for granted. ``sleep`` ends an
#: endless loop, or waits for the streams that were begun.
_BEFORE = """
set -eu
{{
  oo env add test "$URL"
  oo register "$SLUG" <<< "$PASSWORD"
  TOKEN=$(oo token)
{before}
}} > prepared.out 2>&1
sleep() {{
  {sleep}
}}
CALLS=$RECORDED
set +eu
"""
_WAIT_FOR_STREAMS = """
  for _ in {1..1500}; do
    local open=0 call
    for call in "$CALLS"/*-curl-*; do [[ -e $call/code ]] || open=1; done
    [[ $open == 0 ]] && return
    command sleep 0.1
  done
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One ``oo`` or ``curl`` that the block ran."""

    program: str
    words: tuple[str, ...]
    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)

    def flag(self, name: str) -> str | None:
        """Value of a flag as it was given."""
        return next((word.partition("=")[2] for word in self.words if word.startswith(f"--{name}=")), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ran:
    """A block that has run."""

    stdout: str
    stderr: str
    #: In the order in which they began.
    calls: tuple[Call, ...]
    token: str
    folder: Path

    @property
    def submissions(self) -> list[Call]:
        return self._posts("/prompt-svc/prompt")

    @property
    def lists(self) -> list[Call]:
        return self._posts("/prompt-svc/prompts")

    @property
    def streams(self) -> list[Call]:
        return [call for call in self.calls if call.program == "curl" and "/subscribe" in " ".join(call.words)]

    def _posts(self, path: str) -> list[Call]:
        return [call for call in self.calls if call.program == "oo" and call.words[:2] == ("post", path)]


def blocks() -> dict[str, str]:
    """The document's blocks by name."""
    parts = re.split(r"^#@ (\S+)\n", COMMANDS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def run_block(block: str, folder: Path, url: str, *, before: str, ends: int, one_iteration: bool) -> Ran:
    """Run a block in ``folder``.

    Args:
        before: commands that make what the block takes for granted.
        ends: answers after which a subscription is left.
        one_iteration: the block loops for ever; it is left when it sleeps.

    Raises:
        AssertionError: what comes before the block failed.
    """
    recorded, prepared = folder / "calls", folder / "prepared"
    for path in (recorded, prepared):
        path.mkdir(parents=True)
    script = (
        _BEFORE.format(before=before, sleep="exit 0" if one_iteration else _WAIT_FOR_STREAMS)
        + block
        + "\nwait\necho ran > ended\n"
    )
    system_path = "/usr/local/bin:/usr/bin:/bin"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env={
            "PATH": f"{TOOLS}:{system_path}",
            "SYSTEM_PATH": system_path,
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "PYTHON": sys.executable,
            "ROOT": str(ROOT),
            "URL": url,
            "OO_CONFIG": str(folder / "cliConfig.yaml"),
            "CALLS": str(prepared),
            "RECORDED": str(recorded),
            "ENDS": str(ends),
            "SLUG": f"reader-{secrets.token_hex(6)}",
            "PASSWORD": "correct horse battery",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    assert one_iteration or (folder / "ended").exists(), f"{done.stderr}\n{(folder / 'prepared.out').read_text()}"
    return Ran(
        stdout=done.stdout,
        stderr=done.stderr,
        calls=tuple(_call(path) for path in sorted(recorded.iterdir())),
        token=_token(prepared),
        folder=folder,
    )


def _call(folder: Path) -> Call:
    texts = {path.name: path.read_text(encoding="utf-8", errors="replace") for path in folder.iterdir()}
    return Call(
        program=folder.name.split("-")[1],
        words=tuple(texts["words"].split("\0")[:-1]),
        # Without one it was killed.
        code=int(texts.get("code", -1)),
        stdout=texts.get("stdout", ""),
        stderr=texts.get("stderr", ""),
    )


def _token(prepared: Path) -> str:
    return next(call.stdout for call in map(_call, sorted(prepared.iterdir())) if call.words == ("token",)).strip()
