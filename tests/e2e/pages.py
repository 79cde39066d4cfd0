"""The commands of a page of the documentation, as they stand there, against a running service."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

from tests.service import ROOT, Service


def blocks(page: str, language: str) -> list[str]:
    """The page's blocks that are marked with a language, in their order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{re.escape(language)}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run_shell(block: str, service: Service, **environ: str) -> str:
    """What a block prints. Only PORT differs, which it reads itself, and what else is given."""
    done = subprocess.run(
        ["bash", "-eu", "-c", block],
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "PORT": str(service.port), **environ},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    print(done.stdout)  # for who wants to see what the page should show
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_python(block: str, service: Service) -> str:
    """The same of a program, whose address is the documented one."""
    program = block.replace("http://localhost:11337", service.url)
    assert program != block
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=240, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    return done.stdout


def documents(text: str) -> list[Any]:
    """The JSON documents that were printed one behind another."""
    found, decoder = [], json.JSONDecoder()
    while text := text.strip():
        document, end = decoder.raw_decode(text)
        found.append(document)
        text = text[end:]
    return found
