"""The commands of the guides, as they stand there, against the real service. ``$URL`` is where it is."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.service import ROOT, Service

JQ = ROOT / "tests" / "e2e" / "document_tools" / "jq_program.py"


@pytest.fixture
def run(service: Service, tmp_path: Path) -> Callable[[str], str]:
    """Runs the commands of a page; returns what they printed."""
    programs = {
        # Not on every machine.
        "jq": [sys.executable, str(JQ)],
        # What the set-up puts into .venv/bin.
        "prompt-chat": [sys.executable, "-P", "-m", "clients.chat"],
    }
    for name, command in programs.items():
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        program.chmod(0o755)

    def run(page: str) -> str:
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        script = "\n".join(re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
        assert script, "the page has no commands"
        done = subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", script],
            cwd=ROOT,
            env={
                "PATH": f"{tmp_path}:{os.defpath}",
                "PYTHONPATH": str(ROOT),
                "URL": service.url,
                "PORT": service.url.rsplit(":", 1)[1],
                "OO_CONFIG": str(tmp_path / "oo.yaml"),
            },
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_open_assistant(run: Callable[[str], str]):
    printed = run("open-assistant.md")
    stream = [line.removeprefix("data: ") for line in printed.splitlines() if line.startswith("data: ")]
    last = json.loads(stream[-1])
    assert last["event_type"] == "message"
    # The last command prints what the last event had.
    content = printed.rpartition(stream[-1])[2].strip()
    assert content == last["message"]["content"].strip() != ""


def test_prompt_chat(run: Callable[[str], str]):
    answers = run("chat.md")
    # The first is the likeliest, the others are sampled.
    assert "Paris" in answers.splitlines()[0]
    assert len(answers.strip().splitlines()) >= 4
