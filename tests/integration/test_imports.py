"""What a process does not load whose work does not need it: an ingress is up sooner, and takes less memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.service import ROOT


@pytest.mark.parametrize(
    ("modules", "spared"),
    [
        pytest.param("deployments.app", {"torch", "diffusers", "transformers"}, id="the graph"),
        pytest.param(
            "deployments.engines.rendering, deployments.ingress.routes", {"torch", "vllm", "ray"}, id="rendering"
        ),
    ],
)
def test_it_is_not_loaded(modules: str, spared: set[str]) -> None:
    program = f"import sys, {modules}; print(*{spared!r} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.split()) == (0, [])
