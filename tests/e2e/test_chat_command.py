"""``prompt-chat`` against the real service: in front of a real terminal, and through a pipe."""

from __future__ import annotations

import re
import secrets
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.service import ROOT, Service
from tests.terminal import Terminal
from tests.waiting import wait_for


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "OO_CONFIG": str(tmp_path / "oo.yaml"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }


def command(service: Service, *words: str) -> list[str]:
    name = f"ada-{secrets.token_hex(4)}"
    return [sys.executable, "-m", "clients.chat", "--url", service.url, "--user", name, *words]


def test_a_conversation_through_a_pipe(service: Service, environ: dict[str, str], tmp_path: Path):
    done = subprocess.run(
        command(service, "--temperature", "0", "--max-tokens", "30"),
        input="What is the capital of France?\nAnd of Italy?\n",
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.split("\n", 1)
    assert "Paris" in first
    assert second.strip()


def test_a_person_in_front_of_a_terminal(service: Service, environ: dict[str, str], tmp_path: Path):
    with Terminal(
        command(service, "-m", "test/slow", "--max-tokens", "20"), environ=environ, cwd=str(tmp_path)
    ) as terminal:
        terminal.until(r"/help for help.*\n> ")
        terminal.type("Tell me a story\r")
        # The scripted model says a byte a second.
        terminal.until(r"Tell me a story\n[^\n]*\w")
        terminal.type("\x03")
        terminal.until(r"cancelled\n> ")
        terminal.type("/model distilgpt2\r")
        terminal.until(r"answers come from distilgpt2\n> ")
        terminal.type("Hello there\r")
        terminal.until(r"Hello there\n(?s:.*)\S(?s:.*)\n> ")
        terminal.type("/history\r")
        terminal.until(r"> Tell me a story\n> Hello there\n\S")
        terminal.until(r"> ")
        terminal.type("\x03")
        terminal.until(r"/bye leaves\n> ")
        terminal.type("/bye\r")
        thread = terminal.until(r"go on with: prompt-chat --thread (\S+)")[1]
        assert terminal.wait() == 0
    assert re.fullmatch(r"thr-\w{22}", thread)
    history = tmp_path / "state" / "prompt-chat" / "history"
    assert history.read_text().splitlines() == [
        "Tell me a story",
        "/model distilgpt2",
        "Hello there",
        "/history",
        "/bye",
    ]


def test_ctrl_c_stops_the_model(service: Service, environ: dict[str, str], tmp_path: Path):
    name = f"bob-{secrets.token_hex(4)}"
    login = httpx.get(f"{service.url}/auth/callback/debug", params={"code": name}).json()
    token = login["access_token"]["access_token"]

    def statuses() -> list[str]:
        filters = [{"field": "status", "operator": "in", "value": ["running", "scheduled", "canceled", "completed"]}]
        answer = httpx.post(
            f"{service.url}/prompt-svc/prompts",
            json={"query": {"filters": filters}},
            headers={"Authorization": f"Bearer {token}"},
        )
        return [prompt["status"] for prompt in answer.json()["prompts"]]

    words = [sys.executable, "-m", "clients.chat", "--url", service.url, "--token", token, "-m", "test/slow"]
    with Terminal(words, environ=environ, cwd=str(tmp_path)) as terminal:
        terminal.until(r"\n> ")
        terminal.type("Tell me a story\r")
        wait_for(lambda: statuses() == ["running"], timeout_s=20)
        terminal.type("\x03")
        terminal.until(r"cancelled\n> ")
        assert statuses() == ["canceled"]
        terminal.type("\x04")
        assert terminal.wait() == 0
